"""Learning rates of named groups: logged by name, printed as a table."""

from mmengine.config import Config
from mmengine.logging import MessageHub
from prettytable import PrettyTable

from mmseg_dafm.optim.schedule_check import REMEDY, TOLERANCE, check_rates, uses_daft


class NamedRates:
    """Mixin for optimizer wrappers: logs both rates by name, and refuses schedules that raise one above its given value.

    ``get_lr`` also returns ``features_lr`` and ``head_lr``. The names end in ``lr`` because mmengine prints only such scalars
    with an exponent.

    The limit of a rate is its given value or, if larger, its value after ``auto_scale_lr``. If the run has a config, the
    schedule is checked before the first iteration; else the first step above the limit raises. Warm-up from below is allowed.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._given = [group['lr'] for group in self.optimizer.param_groups]

    def get_lr(self) -> dict[str, list[float]]:
        """The base wrapper's rates, plus one rate per role: that of its first group."""
        rates = {}
        for group in self.optimizer.param_groups:
            rates.setdefault(f'{group["name"].split()[0]}_lr', [group['lr']])
        return {**super().get_lr(), **rates}

    def initialize_count_status(self, *args, **kwargs) -> None:
        """Check the schedule; the runner calls this after it built optimizer and schedulers, before the training.

        Raises:
            ValueError: See :func:`mmseg_dafm.optim.schedule_check.check_schedule`.
        """
        super().initialize_count_status(*args, **kwargs)
        try:
            # the wrapper does not know the runner; mmengine puts the config text into the message hub
            cfg = Config.fromstring(MessageHub.get_current_instance().get_info('cfg') or '', '.py')
        except Exception:  # the text may not parse, for example with objects in it; step() checks, too
            return
        if uses_daft(cfg.get('optim_wrapper') or {}):
            names = [group['name'] for group in self.optimizer.param_groups]
            check_rates(cfg, dict(zip(names, self._meant(), strict=True)))

    def step(self, **kwargs) -> None:
        """Update the parameters.

        Raises:
            ValueError: If a rate is above its limit; nothing is updated.
        """
        for group, meant in zip(self.optimizer.param_groups, self._meant(), strict=True):
            if group['lr'] > meant * (1 + TOLERANCE):
                raise ValueError(
                    f'the schedule raises the rate of {group["name"]} from {meant:g} to {group["lr"]:g}. An eta_min, '
                    f'for example, holds for every group: {REMEDY}.'
                )
        super().step(**kwargs)

    def _meant(self) -> list[float]:
        """Limit of each group's rate."""
        # schedulers store initial_lr after auto_scale_lr; OneCycleLR stores its own, lower start
        noted = [group.get('initial_lr', 0.0) for group in self.optimizer.param_groups]
        return [max(pair) for pair in zip(self._given, noted, strict=True)]


def group_table(groups: list[dict]) -> str:
    """The groups as a text table: name, tensors, parameters, learning rate, weight decay.

    Args:
        groups: ``dict(name, params, lr, weight_decay)`` per group.

    Returns:
        One row per group, in the given order.
    """
    table = PrettyTable(['group', 'tensors', 'parameters', 'lr', 'weight decay'])
    table.align = 'r'
    table.align['group'] = 'l'
    for group in groups:
        count = sum(parameter.numel() for parameter in group['params'])
        table.add_row([group['name'], len(group['params']), f'{count:,}', f'{group["lr"]:.3g}', f'{group["weight_decay"]:.3g}'])
    return table.get_string()
