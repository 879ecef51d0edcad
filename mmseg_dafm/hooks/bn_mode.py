"""BNModeHook: keep parts of a model in test mode, or in train mode, during training."""

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmseg.registry import HOOKS
from torch import nn

from mmseg_dafm.core.runner import unwrapped
from mmseg_dafm.daft.layers import check_parts, is_batch_norm, within

SCOPES = ('bn', 'all')


def modules_by_mode(model: nn.Module, modes: dict[str, str], scope: str) -> dict[nn.Module, bool]:
    """Choose train or test mode for each module; the longest matching path decides.

    Args:
        model: Any module.
        modes: Path of a part -> ``'train'`` or ``'eval'``; ``''`` is the whole model.
        scope: ``'bn'``: batch norm layers only. ``'all'``: every module (dropout and stochastic depth, too).

    Returns:
        module -> True for train mode, False for test mode.

    Raises:
        ValueError: If a part does not exist or, with scope ``'bn'``, holds no batch norm.
    """
    check_parts(model, list(modes))
    chosen: dict[nn.Module, bool] = {}
    used = set()
    for name, module in model.named_modules():
        parts = [part for part in modes if within(name, [part])]
        if parts and (scope == 'all' or is_batch_norm(module)):
            part = max(parts, key=len)
            chosen[module] = modes[part] == 'train'
            used.update(parts)
    empty = [part for part in modes if part not in used]
    if empty:
        raise ValueError(f"BNModeHook: there is no batch normalisation in {empty}; take them out of modes, or set scope='all'.")
    return chosen


@HOOKS.register_module()
class BNModeHook(Hook):
    """Keep parts of the model in train or test mode while it trains: LP-FT, frozen batch norm.

    A training loop calls ``model.train()`` repeatedly, which undoes any ``eval()``; mmseg's ``norm_eval`` covers the backbone
    only. ``modes={'': 'eval'}, scope='all'`` is the second stage of LP-FT: the whole network trains in test mode.
    ``modes={'backbone': 'eval'}`` is a frozen-BN baseline. In test mode, batch norm normalises by its running statistics and
    does not update them; gamma and beta still train.

    Args:
        modes: Path of a part -> ``'train'`` or ``'eval'``; the longest matching path decides.
        scope: ``'bn'``: batch norm layers only. ``'all'``: every module.

    Raises:
        ValueError: If a mode or the scope is unknown; at the start of training, if the model lacks a part.

    Source: LP-FT (Kumar et al., ICLR 2022) as DAFT's Table 1 describes it: "BN test mode".
    """

    # last: other hooks may call model.train()
    priority = 'VERY_LOW'

    def __init__(self, modes: dict[str, str], scope: str = 'bn') -> None:
        wrong = {part: mode for part, mode in modes.items() if mode not in ('train', 'eval')}
        if wrong or not modes:
            raise ValueError(f"BNModeHook: modes maps parts of the model to 'train' or 'eval', got {wrong or modes}.")
        if scope not in SCOPES:
            raise ValueError(f'BNModeHook: scope={scope!r} is unknown: use one of {SCOPES}.')
        self.modes, self.scope = dict(modes), scope
        self._chosen: dict[nn.Module, bool] = {}

    def before_train(self, runner) -> None:
        """Find the modules and log their number."""
        model = unwrapped(runner.model)
        self._chosen = modules_by_mode(model, self.modes, self.scope)
        norms = [training for module, training in self._chosen.items() if is_batch_norm(module)]
        print_log(f'BNModeHook: {norms.count(False)} batch norm layers in test mode, {norms.count(True)} in train', 'current')

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Apply the modes. Each loop calls ``model.train()`` before this."""
        for module, training in self._chosen.items():
            module.training = training
