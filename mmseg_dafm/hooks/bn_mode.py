"""BNModeHook: keep parts of a model in test mode, or in train mode, during training."""

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmseg.registry import HOOKS
from torch import nn

from mmseg_dafm.core.runner import unwrapped
from mmseg_dafm.daft.layers import check_parts, is_batch_norm, within

SCOPES = ('bn', 'all')


def modules_by_mode(model: nn.Module, modes: dict[str, str], scope: str) -> dict[nn.Module, bool]:
    """Which modules are to be in train mode and which in test mode; the longest matching path decides.

    Args:
        model: Any module.
        modes: Path of a part -> ``'train'`` or ``'eval'``; ``''`` is the whole model.
        scope: ``'bn'`` for batch norm layers alone, ``'all'`` for every module (dropout and stochastic depth, too).

    Returns:
        module -> whether it trains.

    Raises:
        ValueError: If a part does not exist, or holds nothing of that scope.
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

    A training loop calls ``model.train()`` again and again, which undoes any ``eval()``; mmseg's ``norm_eval`` covers
    the backbone alone. With ``modes={'': 'eval'}, scope='all'`` this is the second stage of LP-FT, which trains the whole
    network in test mode; with ``modes={'backbone': 'eval'}`` it is a frozen-BN baseline. Test mode means the running
    statistics normalise and stay as they are; gamma and beta still train.

    Args:
        modes: Path of a part -> ``'train'`` or ``'eval'``; the longest path that holds a module decides.
        scope: ``'bn'``: batch norm layers alone. ``'all'``: every module.

    Raises:
        ValueError: For an unknown mode or scope; at the start of training, for a part that the model lacks.

    Source: LP-FT (Kumar et al., ICLR 2022) as DAFT's Table 1 describes it: "BN test mode".
    """

    # after other hooks of the same event, which may call model.train() themselves
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
        """Find the modules and log how many there are."""
        model = unwrapped(runner.model)
        self._chosen = modules_by_mode(model, self.modes, self.scope)
        norms = [training for module, training in self._chosen.items() if is_batch_norm(module)]
        print_log(f'BNModeHook: {norms.count(False)} batch norm layers in test mode, {norms.count(True)} in train', 'current')

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Apply the modes; both loops have called ``model.train()`` by now."""
        for module, training in self._chosen.items():
            module.training = training
