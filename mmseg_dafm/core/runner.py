"""Helpers for mmengine's Runner: unwrap and rewrap its model, read the running config."""

import gc

from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """Remove the wrappers of parallel training and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def rewrap(runner) -> None:
    """Rebuild the distributed wrapper of a runner's model; without a wrapper nothing happens.

    Call it after ``requires_grad`` changed: DDP waits for the parameters that required a gradient when it was built. The
    parameters stay the same objects, so the optimizer and hooks are not affected.
    """
    if not is_model_wrapper(runner.model):
        return
    inner = runner.model.module
    # DDP's reducer removes its hooks from the parameters only when it is destroyed
    runner.model = inner
    gc.collect()
    # wrap_model applies model_wrapper_cfg again; compile the new wrapper's step as the old one's was
    runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), inner)
    runner._maybe_compile('train_step')


def parse_config(text: str | None) -> dict:
    """Parse the config text from mmengine's message hub; {} if it is missing or cannot be parsed."""
    try:
        return Config.fromstring(text, '.py').to_dict() if text else {}
    except Exception:
        # The config only annotates scores: an error here must not lose them.
        return {}


def running_config() -> dict:
    """Config of the current run; {} outside of a run."""
    return parse_config(MessageHub.get_current_instance().get_info('cfg'))
