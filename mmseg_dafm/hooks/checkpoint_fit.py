"""Refuse checkpoints that do not fit the model, before mmengine loads what does."""

import logging

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import HOOKS
from torch import nn

from mmseg_dafm.core.checkpoint import require_fit, require_some, state_dict_of


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Compare each checkpoint with the model.

    mmengine loads what fits and only logs the rest, so a test of another network's checkpoint scores random weights. With this
    hook a test, a validation and a resumed training need every tensor that the model saves, finite and in its shape. A training
    that starts from ``load_from`` needs one tensor, and logs how many fit. A prefix such as ``module.`` is stripped.
    """

    # before hooks that read the checkpoint, such as EMAHook
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the checkpoint, and put its state dict under the names that the model has.

        Raises:
            ValueError: If it does not fit; the file and the tensors are named.
        """
        what = str(runner._load_from or 'the checkpoint')
        model, state = unwrapped(runner.model), state_dict_of(checkpoint)
        # a test never builds the loop of the training
        training = isinstance(runner._train_loop, BaseLoop)
        if training and runner._resume and 'message_hub' not in checkpoint:
            raise ValueError(
                f'{what} holds weights and no training state: it cannot be resumed. Give it as load_from without --resume.'
            )
        fit = (require_some if training and not runner._resume else require_fit)(model, state, what)
        if not fit.complete or fit.prefix or fit.left:
            print_log(f'{what}: {fit}', 'current', logging.INFO if fit.complete else logging.WARNING)
        else:
            print_log(f'{what}: all {fit.total} tensors fit', 'current')
        if fit.prefix or 'state_dict' not in checkpoint:
            checkpoint['state_dict'] = fit.state


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside wrappers of parallel training and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
