"""Wrap a model for distributed training anew, after another set of its parameters requires gradients."""

import gc

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside wrappers of parallel training and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def rewrap(runner) -> None:
    """Build the distributed wrapper of a runner's model anew; without one nothing happens.

    DDP waits for the gradients of those parameters that required one when it was built. Parameters stay the same objects, so
    the optimizer and hooks that hold the inner model need not know.
    """
    if not is_model_wrapper(runner.model):
        return
    inner = runner.model.module
    # DDP's reducer takes its hooks off the parameters only when it is destroyed
    runner.model = inner
    gc.collect()
    # a strategy or a compiled step would be lost with the old wrapper
    runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), inner)
    runner._maybe_compile('train_step')
