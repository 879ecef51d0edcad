"""``init_cfg=dict(type='Pretrained', ...)`` that says how much of a module a file covers."""

import logging

from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit, update_init_info
from mmengine.runner.checkpoint import CheckpointLoader, load_state_dict
from mmseg.registry import WEIGHT_INITIALIZERS
from torch import nn

from mmseg_dafm.core.checkpoint import state_dict_of
from mmseg_dafm.core.fit import require_some


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class CheckedPretrainedInit(PretrainedInit):
    """mmengine's initialiser, with one line in the log: how many of the module's tensors the file fills.

    Takes the place of ``Pretrained`` in mmseg's scope. Without ``prefix`` a prefix of all names, such as ``module.`` or
    ``backbone.``, is found and stripped.

    Args:
        checkpoint: File or URL.
        prefix: Part of the file to take, for example ``'backbone.'``.
        map_location: As for ``torch.load``.
    """

    def __call__(self, module: nn.Module) -> None:
        """Fill the module.

        Raises:
            ValueError: If no tensor fits, or one that fits is not finite; the file is named.
        """
        state = state_dict_of(CheckpointLoader.load_checkpoint(self.checkpoint, self.map_location))
        if self.prefix is not None:
            prefix = self.prefix.rstrip('.') + '.'
            state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        fit = require_some(module, state, f'init_cfg of {type(module).__name__}: {self.checkpoint}')
        level = logging.INFO if fit.complete else logging.WARNING
        print_log(f'{type(module).__name__} from {self.checkpoint}: {fit}', 'current', level)
        # mmengine's function also fills children that load in ways of their own; its list of names is silenced
        load_state_dict(module, fit.state, strict=False, logger='silent')
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())
