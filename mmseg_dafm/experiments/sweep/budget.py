"""Fit lists of learning rates to a number of trials: thinner, finer, or shared among steps."""

import math
from collections.abc import Collection, Sequence


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
