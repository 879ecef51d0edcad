"""What mmengine's running Runner knows, and its model inside and outside of wrappers."""

import gc

from mmengine.config import Config
from mmengine.logging import MessageHub
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


def parse_config(text: str | None) -> dict:
    """Parse the config text that mmengine's runner puts into the message hub; {} if there is none that parses."""
    try:
        return Config.fromstring(text, '.py').to_dict() if text else {}
    except Exception:
        # A stamp is never worth the loss of the scores it belongs to, whatever mmengine raises on an odd text.
        return {}


def running_config() -> dict:
    """The config of the run that this process is in; {} outside of a run, and before its runner starts."""
    return parse_config(MessageHub.get_current_instance().get_info('cfg'))
