"""Which trials a sweep of learning rates makes, within a budget."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


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


def between(values: Collection[float], count: int) -> tuple[float, ...]:
    """Find ``count`` more values inside the range of a list: geometric middles of its widest gaps, one after the other.

    Args:
        values: two or more, positive and distinct.
        count: how many to find.

    Returns:
        The new values, of two significant digits where that keeps them apart.
    """
    ordered, found = sorted(values), []
    while len(found) < count:
        # of equally wide gaps that of the larger rates
        index = max(range(1, len(ordered)), key=lambda i: (round(math.log(ordered[i] / ordered[i - 1]), 6), i))
        low, high = ordered[index - 1 : index + 1]
        middle = float(f'{math.sqrt(low * high):.1e}')
        found.append(middle if low < middle < high else math.sqrt(low * high))
        ordered.insert(index, found[-1])
    return tuple(found)


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
    """One step of a sweep: the rate that varies (``feature``, ``head`` or ``tied``), its values, whether it may have more."""

    axis: str
    values: tuple[float, ...]
    open: bool = False


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


def plan_steps(
    mode: str,
    feature_lrs: Sequence[float] | None = None,
    head_lrs: Sequence[float] | None = None,
    rounds: int = 1,
    tied: str = 'ft',
) -> list[Step]:
    """The steps of a sweep.

    Args:
        mode: ``two-step`` (eta_theta at a fixed eta_w, then eta_w at the best eta_theta; DAFT), ``tied`` (one rate for
            both; FT and LP-FT) or ``head-only`` (LP).
        feature_lrs: values of eta_theta, of both rates if tied; None is the default, which a budget may refine.
        head_lrs: values of eta_w; None as above.
        rounds: how often ``two-step`` alternates.
        tied: which of ``TIED_LRS`` is the default of tied rates.

    Raises:
        ValueError: If a list is empty or holds something else than distinct positive numbers, or the mode is unknown.

    Source: DAFT, "Integrated LP-FT" and supplement.
    """
    lists = {'two-step': ('feature', 'head') * rounds, 'tied': ('tied',), 'head-only': ('head',)}
    if mode not in lists or rounds < 1:
        raise ValueError(f'a sweep is one of {sorted(lists)} with 1 round or more, got {mode!r} with {rounds}.')
    defaults = {'feature': FEATURE_LRS, 'head': HEAD_LRS, 'tied': TIED_LRS[tied]}
    steps = []
    for axis in lists[mode]:
        key, given = ('head_lrs', head_lrs) if axis == 'head' else ('feature_lrs', feature_lrs)
        values = defaults[axis] if given is None else given
        if not values or len(set(values)) < len(values) or not all(0 < value < math.inf for value in values):
            raise ValueError(f'{key} must be distinct positive numbers, got {list(values)}.')
        steps.append(Step(axis, tuple(values), open=given is None))
    return steps


def check_budget(steps: Sequence[Step], start: Point, budget: int) -> None:
    """Refuse budgets that the steps cannot use up, or that are too small for them.

    Raises:
        ValueError: If the budget is below one trial per step, or if one round of lists that may not be refined is shorter.
    """
    allowances([len(step.values) for step in steps], budget)
    if len(steps) <= 2 and not steps[-1].open:
        # of two steps the second does not repeat a value at which the first was run
        total = sum(len(step.values) for step in steps) - (len(steps) == 2 and start.head_lr in steps[-1].values)
        if total < budget:
            raise ValueError(
                f'--budget {budget} asks for more trials than the {total} that the given rates make: give more rates, or lower '
                'the budget of every method.'
            )


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
        budget: this many trials. The lists are then thinned by :func:`thin`, each step by its share; the last one is refined
            by :func:`between` if it is open and too short. Only closed lists in several rounds can leave some of it.

    Returns:
        The trials in the order of their steps, and the best of the last step's line, which holds the best of all before.

    Raises:
        ValueError: If a whole line diverged or the budget is too small.
    """
    if budget is not None:
        check_budget(steps, start, budget)
    done: dict[Point, Trial] = {}
    notes, here = [], start
    for number, step in enumerate(steps, 1):
        fresh = [value for value in step.values if here.moved(step.axis, value) not in done]
        if budget is not None and fresh:
            later = [len(set(other.values) - {axis_value(here, other.axis)}) for other in steps[number:]]
            share = allowances([len(fresh), *filter(None, later)], budget - len(done))[0]
            fresh = thin(fresh, share)
        if budget is not None and step.open and number == len(steps):
            tried = (axis_value(trial.point, step.axis) for trial in _on_line(done, here, step.axis))
            fresh = [*fresh, *between({*tried, *fresh}, budget - len(done) - len(fresh))]
        new = [here.moved(step.axis, value) for value in fresh]
        for point, score in zip(new, evaluate(number, new), strict=True):
            done[point] = Trial(point, score, number)
        # earlier trials that lie on this line count, too: the best so far is one of them
        on_line = _on_line(done, here, step.axis)
        best = best_of(on_line)
        here = best.point
        notes += [f'step {number}: {note}' for note in edge_notes(step.axis, best, on_line)]
    if budget is not None and len(done) < budget:
        notes.append(f'{len(done)} trials of a budget of {budget}: later rounds met rates that were tried before.')
    return Outcome(tuple(done.values()), done[here], tuple(notes))


def _on_line(done: Mapping[Point, Trial], here: Point, axis: str) -> list[Trial]:
    """The trials that differ from ``here`` in the rate of ``axis`` at most."""
    return [trial for point, trial in done.items() if point == here.moved(axis, axis_value(point, axis))]


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
