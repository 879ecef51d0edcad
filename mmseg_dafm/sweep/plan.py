"""Which learning rates a sweep tries, and which it chooses: pure functions, nothing is trained here."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# DAFT, supplement: step 1 sweeps eta_theta at eta_w = 1.0; step 2 sweeps eta_w over {10, 3, 0.3, 0.1}. The paper's lists
# end there; 1.0 is step 1's own value, and 0.03 and 0.01 are added for converted features, whose scale is large.
FEATURE_LRS = (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6)
HEAD_LRS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
FIXED_HEAD_LR = 1.0
TIED_LRS = {
    'ft': (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4),
    'lp-ft': (1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7),
    'lp-ft-swav': (0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6),
}
AXES = ('feature', 'head', 'tied')


class Point(NamedTuple):
    """A pair of learning rates, eta_theta and eta_w; equal ones for tied rates, ``feature_lr=0`` for a frozen backbone."""

    feature_lr: float
    head_lr: float

    def moved(self, axis: str, value: float) -> 'Point':
        """The point with one rate (or both, axis ``tied``) replaced."""
        return Point(self.feature_lr if axis == 'head' else value, self.head_lr if axis == 'feature' else value)


class Step(NamedTuple):
    """One step of a sweep: the rate that varies (``feature``, ``head`` or ``tied``) and its values."""

    axis: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Trial:
    """A point that was tried: its score on the selection data, nan if the training diverged, and the step that asked for it."""

    point: Point
    score: float
    step: int = 0

    @property
    def diverged(self) -> bool:
        """Whether the training ended without a finite score."""
        return not math.isfinite(self.score)


@dataclass(frozen=True)
class Outcome:
    """All trials of a sweep, the chosen one, and remarks for the reader."""

    trials: tuple[Trial, ...]
    chosen: Trial
    notes: tuple[str, ...]


def thin(values: Sequence[float], count: int) -> tuple[float, ...]:
    """Keep ``count`` of the values, both ends and as evenly spaced on the log axis as the values allow.

    Args:
        values: positive and distinct.
        count: how many to keep, 1 or more; one is the middle. All are kept if there are not more.

    Returns:
        The kept values in their order.
    """
    if count >= len(values):
        return tuple(values)
    ordered = sorted(values)
    low, high = math.log(ordered[0]), math.log(ordered[-1])
    targets = [low + (high - low) * i / (count - 1) for i in range(count)] if count > 1 else [(low + high) / 2]
    kept: set[float] = set()
    for target in targets:
        kept.add(min((v for v in ordered if v not in kept), key=lambda v: abs(math.log(v) - target)))
    return tuple(value for value in values if value in kept)


def plan_steps(
    mode: str, feature_lrs: Sequence[float] = FEATURE_LRS, head_lrs: Sequence[float] = HEAD_LRS, rounds: int = 1
) -> list[Step]:
    """The steps of a sweep.

    Args:
        mode: ``two-step`` (eta_theta at a fixed eta_w, then eta_w at the best eta_theta; DAFT), ``tied`` (one rate for
            both; FT and LP-FT) or ``head-only`` (LP).
        feature_lrs: values of eta_theta, of both rates if tied.
        head_lrs: values of eta_w.
        rounds: how often ``two-step`` alternates.

    Raises:
        ValueError: If a list is empty or holds something else than distinct positive numbers, or the mode is unknown.

    Source: DAFT, "Integrated LP-FT" and supplement.
    """
    lists = {'two-step': ('feature', 'head') * rounds, 'tied': ('tied',), 'head-only': ('head',)}
    if mode not in lists or rounds < 1:
        raise ValueError(f'a sweep is one of {sorted(lists)} with 1 round or more, got {mode!r} with {rounds}.')
    steps = []
    for axis in lists[mode]:
        key, values = ('head_lrs', head_lrs) if axis == 'head' else ('feature_lrs', feature_lrs)
        if not values or len(set(values)) < len(values) or not all(0 < value < math.inf for value in values):
            raise ValueError(f'{key} must be distinct positive numbers, got {list(values)}.')
        steps.append(Step(axis, tuple(values)))
    return steps


def allowances(sizes: Sequence[int], budget: int) -> list[int]:
    """Share a number of trials among steps in proportion to their sizes (largest remainders), at least one each.

    Raises:
        ValueError: If the budget is below one trial per step.
    """
    if budget < len(sizes):
        raise ValueError(f'--budget {budget} is below one trial for each of the {len(sizes)} steps: raise it.')
    total = sum(sizes)
    if budget >= total:
        return list(sizes)
    ideal = [budget * size / total for size in sizes]
    shares = [max(1, math.floor(value)) for value in ideal]
    while (left := budget - sum(shares)) != 0:
        # who is furthest below (or above) the ideal share gets (or gives) one
        candidates = [i for i, share in enumerate(shares) if left > 0 or share > 1]
        index = max(candidates, key=lambda i: (ideal[i] - shares[i]) * (1 if left > 0 else -1))
        shares[index] += 1 if left > 0 else -1
    return shares


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest score; of equal ones that with the smaller rates. Diverged ones are the worst.

    Raises:
        ValueError: If all diverged.
    """
    alive = [trial for trial in trials if not trial.diverged]
    if not alive:
        raise ValueError(f'all {len(trials)} trials diverged: sweep smaller rates, or lower --fixed-head-lr.')
    return max(alive, key=lambda trial: (trial.score, -trial.point.feature_lr, -trial.point.head_lr))


def sweep(
    steps: Sequence[Step], start: Point, evaluate: Callable[[int, list[Point]], list[float]], budget: int | None = None
) -> Outcome:
    """Run the steps: each varies one rate at the best values so far, and no point is tried twice.

    Args:
        steps: from :func:`plan_steps`.
        start: the rates that hold until a step has replaced them.
        evaluate: maps a step's number (1, 2, ...) and its new points to their scores, higher is better, nan for diverged.
        budget: at most this many trials; the lists are then thinned by :func:`thin`, each step by its share.

    Returns:
        The trials in the order of their steps, and the best of the last step's line, which holds the best of all before.

    Raises:
        ValueError: If a whole line diverged or the budget is too small.
    """
    done: dict[Point, Trial] = {}
    notes, here = [], start
    for number, step in enumerate(steps, 1):
        fresh = [value for value in step.values if here.moved(step.axis, value) not in done]
        if budget is not None and fresh:
            later = [len(set(other.values) - {axis_value(here, other.axis)}) for other in steps[number:]]
            share = allowances([len(fresh), *filter(None, later)], budget - len(done))[0]
            fresh = thin(fresh, share)
        new = [here.moved(step.axis, value) for value in fresh]
        for point, score in zip(new, evaluate(number, new), strict=True):
            done[point] = Trial(point, score, number)
        # earlier trials that lie on this line count, too: the best so far is one of them
        on_line = [trial for point, trial in done.items() if point == here.moved(step.axis, axis_value(point, step.axis))]
        best = best_of(on_line)
        here = best.point
        notes += [f'step {number}: {note}' for note in edge_notes(step.axis, best, on_line)]
    return Outcome(tuple(done.values()), done[here], tuple(notes))


def axis_value(point: Point, axis: str) -> float:
    """The rate of a point that a step along ``axis`` varies."""
    return point.head_lr if axis == 'head' else point.feature_lr


def edge_notes(axis: str, best: Trial, line: Sequence[Trial]) -> list[str]:
    """A warning if the best value is the smallest or largest that was tried: the optimum may lie beyond."""
    values = sorted(axis_value(trial.point, axis) for trial in line)
    value = axis_value(best.point, axis)
    if len(values) < 2 or value not in (values[0], values[-1]):
        return []
    side = 'smallest' if value == values[0] else 'largest'
    name = {'feature': 'feature_lr', 'head': 'head_lr', 'tied': 'the rate'}[axis]
    return [f'{name}={value:g} is the {side} of its list; a better one may lie beyond.']
