"""Learning rates of named groups: logged by name, printed as a table."""

from mmengine.config import Config
from mmengine.logging import MessageHub
from prettytable import PrettyTable

from mmseg_dafm.optim.schedule_check import REMEDY, TOLERANCE, check_rates, uses_daft


class NamedRates:
    """Mixin for optimizer wrappers: names the two rates in the log, and refuses schedules that raise one above what was meant.

    ``get_lr`` also gives ``features_lr`` and ``head_lr``. The names end in ``lr`` because mmengine prints such scalars, and
    no others, with an exponent.

    A schedule is refused before the first iteration if the run was made from a config, by whatever tool; else at the first
    step with a rate above what was meant. That is the rate as given or, if it is larger, as ``auto_scale_lr`` made it.
    Warming up from below passes.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._given = [group['lr'] for group in self.optimizer.param_groups]

    def get_lr(self) -> dict[str, list[float]]:
        """The rates as the wrapper gives them, and the first group's rate of each role that trains."""
        rates = {}
        for group in self.optimizer.param_groups:
            rates.setdefault(f'{group["name"].split()[0]}_lr', [group['lr']])
        return {**super().get_lr(), **rates}

    def initialize_count_status(self, *args, **kwargs) -> None:
        """Called by the runner when optimizer and schedulers exist and nothing is trained: look ahead at the schedule.

        Raises:
            ValueError: As :func:`mmseg_dafm.optim.schedule_check.check_schedule`.
        """
        super().initialize_count_status(*args, **kwargs)
        try:
            # mmengine keeps the config there for its checkpoints; the wrapper never sees the runner
            cfg = Config.fromstring(MessageHub.get_current_instance().get_info('cfg') or '', '.py')
        except Exception:  # a text that is no config any more, of objects for example: step() looks as well
            return
        if uses_daft(cfg.get('optim_wrapper') or {}):
            names = [group['name'] for group in self.optimizer.param_groups]
            check_rates(cfg, dict(zip(names, self._meant(), strict=True)))

    def step(self, **kwargs) -> None:
        """Update the parameters.

        Raises:
            ValueError: If a rate is above what was meant; nothing is updated.
        """
        for group, meant in zip(self.optimizer.param_groups, self._meant(), strict=True):
            if group['lr'] > meant * (1 + TOLERANCE):
                raise ValueError(
                    f'the schedule raises the rate of {group["name"]} from {meant:g} to {group["lr"]:g}, as an eta_min does, '
                    f'which counts for every group: {REMEDY}.'
                )
        super().step(**kwargs)

    def _meant(self) -> list[float]:
        """The most that each group's rate may be."""
        # schedulers note it when they are built, after auto_scale_lr; OneCycleLR notes its own, lower start
        noted = [group.get('initial_lr', 0.0) for group in self.optimizer.param_groups]
        return [max(pair) for pair in zip(self._given, noted, strict=True)]


def group_table(groups: list[dict]) -> str:
    """The groups as a text table: name, tensors, parameters, learning rate, weight decay.

    Args:
        groups: ``dict(name, params, lr, weight_decay)`` each.

    Returns:
        One row per group, in the order given.
    """
    table = PrettyTable(['group', 'tensors', 'parameters', 'lr', 'weight decay'])
    table.align = 'r'
    table.align['group'] = 'l'
    for group in groups:
        count = sum(parameter.numel() for parameter in group['params'])
        table.add_row([group['name'], len(group['params']), f'{count:,}', f'{group["lr"]:.3g}', f'{group["weight_decay"]:.3g}'])
    return table.get_string()
