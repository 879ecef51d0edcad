"""Check that a schedule never raises a group's learning rate above its given value, by running it without a model."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmseg.registry import PARAM_SCHEDULERS

DAFT = 'DAFTOptimWrapperConstructor'
# relative rounding error of schedules that multiply the rate in each iteration
TOLERANCE = 1e-6
REMEDY = "set eta_min=0 or use mmseg's PolyLRRatio with eta_min_ratio"
# scheduler keys whose value holds for all groups
KEYS = ('eta_min', 'eta_max', 'start_factor', 'end_factor', 'factor', 'gamma', 'base_value')
FLOORS = ('eta_min', 'eta_max')


def check_rates(cfg: Config, rates: Mapping[str, float] | None = None) -> None:
    """Refuse a config whose schedule raises one of DAFT's two rates; warn if it raises a group of another constructor.

    Args:
        cfg: a training config. It passes if it has no schedule or, without DAFT, only one rate.
        rates: group -> its rate in the built optimizer, after ``auto_scale_lr``; None: the rates in the config.

    Raises:
        ValueError: See :func:`check_schedule`; only for configs with ``DAFTOptimWrapperConstructor``.
    """
    schedulers, loop, wrapper = cfg.get('param_scheduler'), cfg.get('train_cfg') or {}, cfg.get('optim_wrapper') or {}
    rates, length = rates or intended_rates(wrapper), loop.get('max_iters') or loop.get('max_epochs')
    is_daft = uses_daft(wrapper)
    if not schedulers or not length or not rates or (not is_daft and len(set(rates.values())) == 1):
        return
    try:
        # a loop that counts epochs is simulated with one iteration per epoch
        check_schedule(rates, schedulers, length, epoch_length=None if loop.get('max_iters') else 1)
    except ValueError as error:
        if is_daft:
            raise
        print_log(str(error), 'current', logging.WARNING)


def uses_daft(wrapper: Mapping) -> bool:
    """Whether an ``optim_wrapper`` config uses ``DAFTOptimWrapperConstructor``, also with a scope or module path."""
    return str(wrapper.get('constructor')).rsplit('.', 1)[-1] == DAFT


def intended_rates(wrapper: Mapping) -> dict[str, float]:
    """Read the learning rates of an ``optim_wrapper`` config's groups.

    Args:
        wrapper: with absolute rates (``feature_lr``, ``head_lr``, ``custom_keys.<name>.lr``) or factors of the optimizer's
            ``lr`` (``<anything>lr_mult``, ``custom_keys.<name>.lr_mult``) in ``paramwise_cfg``.

    Returns:
        Key -> rate above 0, with ``optimizer.lr`` if it is set.
    """
    paramwise, base = wrapper.get('paramwise_cfg') or {}, (wrapper.get('optimizer') or {}).get('lr')
    rates = {key: paramwise[key] for key in ('feature_lr', 'head_lr') if key in paramwise}
    if _is_rate(base):
        rates['optimizer.lr'] = base
        rates.update({key: base * value for key, value in paramwise.items() if key.endswith('lr_mult')})
        for name, keys in (paramwise.get('custom_keys') or {}).items():
            rates[f'custom_keys.{name}'] = keys.get('lr', base) * keys.get('lr_mult', 1.0)
    return {key: rate for key, rate in rates.items() if _is_rate(rate)}


def _is_rate(value: object) -> bool:
    """Whether a value is a positive number; the optimizer refuses other values when it is built."""
    return isinstance(value, int | float) and value > 0


def simulate(
    rates: Mapping[str, float], schedulers: Mapping | Sequence[Mapping], max_iters: int, epoch_length: int | None = None
) -> np.ndarray:
    """Compute the learning rates of each iteration under mmengine's schedulers.

    Args:
        rates: group -> its rate when the optimizer is built.
        schedulers: the config's ``param_scheduler``.
        max_iters: number of iterations.
        epoch_length: iterations per epoch; None for loops that count iterations. In those, schedulers that count epochs do
            not step, and those with ``convert_to_iter_based`` are left out.

    Returns:
        (max_iters, groups), groups in the order of ``rates``.
    """
    values = np.empty((max_iters, len(rates)))
    for iteration, _, found in _walk(rates, schedulers, max_iters, epoch_length):
        values[iteration] = found
    return values


def check_schedule(
    rates: Mapping[str, float], schedulers: Mapping | Sequence[Mapping], max_iters: int, epoch_length: int | None = None
) -> None:
    r"""Refuse schedules that raise a group's rate above its given value.

    mmengine's ``eta_min`` is one absolute number for all groups. A group with :math:`\eta_\theta < \eta_{min}` is
    *raised* to it: 3e-5 becomes 1e-4 with mmseg's usual ``eta_min=1e-4``. Warm-up from below is allowed.

    Args:
        rates: see :func:`simulate`.
        schedulers: see :func:`simulate`.
        max_iters: see :func:`simulate`.
        epoch_length: see :func:`simulate`.

    Raises:
        ValueError: If a rate is raised; names the scheduler, its key, the group, both rates and the remedy.
    """
    names, meant = list(rates), np.array(list(rates.values()))
    peak, culprit = meant.copy(), {}
    for _, scheduler, found in _walk(rates, schedulers, max_iters, epoch_length):
        for group in np.flatnonzero(found > meant * (1 + TOLERANCE)):
            culprit.setdefault(group, scheduler)
        peak = np.maximum(peak, found)
    if not culprit:
        return
    group = max(culprit, key=lambda index: peak[index] / max(meant[index], 1e-300))
    number = culprit[group]
    cfg = _as_list(schedulers)[number]
    key = next((key for key in KEYS if cfg.get(key)), None)
    cause = f'{key}={cfg[key]} holds for every group' if key else 'it overrides the rates of the groups'
    remedy = REMEDY if key in FLOORS or not key else f'keep {key} at or below 1'
    raise ValueError(
        f'param_scheduler[{number}] {cfg["type"]} raises the rate of {names[group]} from {meant[group]:g} to {peak[group]:g}, '
        f'because {cause}: {remedy}.'
    )


def _as_list(schedulers: Mapping | Sequence[Mapping]) -> list[Mapping]:
    return [schedulers] if isinstance(schedulers, Mapping) else list(schedulers)


def _walk(
    rates: Mapping[str, float], schedulers: Mapping | Sequence[Mapping], max_iters: int, epoch_length: int | None
) -> Iterator[tuple[int, int | None, np.ndarray]]:
    """Yield (iteration, index of the scheduler that stepped or None, all rates), per iteration and per step."""
    groups = [dict(params=[torch.zeros(1, requires_grad=True)], lr=rate) for rate in rates.values()]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    read = lambda: np.array([group['lr'] for group in optimizer.param_groups])  # noqa: E731
    built = []
    yield 0, None, read()
    for number, cfg in enumerate(_as_list(schedulers)):
        by_epoch = cfg.get('by_epoch', True)
        if epoch_length is None and cfg.get('convert_to_iter_based'):
            continue
        end = max_iters // (epoch_length or 1) if by_epoch else max_iters
        arguments = dict(optimizer=optimizer, epoch_length=epoch_length or 1)
        built.append((number, PARAM_SCHEDULERS.build({'end': max(1, end), **copy.deepcopy(dict(cfg))}, default_args=arguments)))
        yield 0, number, read()
    # mmengine warns if a scheduler steps before the optimizer
    optimizer.step()
    for iteration in range(1, max_iters):
        yield iteration, None, read()
        for number, scheduler in built:
            if not scheduler.by_epoch or (epoch_length and iteration % epoch_length == 0):
                scheduler.step()
                yield iteration, number, read()
