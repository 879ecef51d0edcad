"""Rank hundreds of millions of scores without sorting them, and number the weights by flat ids."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmseg_dafm.fishertune.candidates import Candidate

HIGH_BITS, LOW_BITS = 15, 16
# up to this many scores are sorted; of more, bins that hold this share or more are looked at by their lower bits, too
SORTED, HEAVY = 2**20, 1 / 256


def order_keys(scores: Tensor) -> Tensor:
    """Integers in the order of the scores: for float32 >= 0 the bit pattern itself.

    Args:
        scores: Non-negative, any shape; taken as float32.

    Returns:
        int32 of the same shape, in [0, 2^31).

    Raises:
        ValueError: For negative, infinite or NaN scores.
    """
    scores = scores.float()
    if not (torch.isfinite(scores).all() and (scores >= 0).all()):
        raise ValueError('scores must be finite and not negative.')
    # -0.0 has another bit pattern than 0.0
    return scores.abs().contiguous().view(torch.int32)


def histogram(keys: Sequence[Tensor], high: int | None = None) -> Tensor:
    """Counts of the keys' upper 15 bits, or, of the keys whose upper bits are ``high``, of the lower 16 bits."""
    size = 2**HIGH_BITS if high is None else 2**LOW_BITS
    total = torch.zeros(size, dtype=torch.int64, device=keys[0].device)
    for key in keys:
        part = key >> LOW_BITS if high is None else key[(key >> LOW_BITS) == high] & (2**LOW_BITS - 1)
        total += torch.bincount(part.flatten(), minlength=size)
    return total


def largest(scores: Sequence[Tensor], count: int) -> Tensor:
    """Flat ids of the ``count`` largest scores, best first; equal scores in the order of their ids.

    Exact: two histograms over the bits of the scores find the smallest score that is in, and only what is in is sorted.

    Args:
        scores: Flat score tensors; ids count through their concatenation. Entries below zero never enter.
        count: How many.

    Returns:
        (count,) int64 on the CPU.

    Raises:
        ValueError: If fewer than ``count`` scores may enter, or a score is NaN or infinite.
    """
    keys = [_keys_or_minus_one(part) for part in scores]
    allowed = sum(int((key >= 0).sum()) for key in keys)
    if not 0 < count <= allowed:
        raise ValueError(f'{count} entries are wanted out of {allowed} candidates.')
    valid = [key[key >= 0] for key in keys]
    # how many lie in a bin or above
    above = histogram(valid).flip(0).cumsum(0).flip(0)
    high = int((above >= count).nonzero()[-1])
    over = int(above[high + 1]) if high + 1 < len(above) else 0
    inside = histogram(valid, high).flip(0).cumsum(0).flip(0) + over
    limit = (high << LOW_BITS) + int((inside >= count).nonzero()[-1])
    ids, values, offset = [], [], 0
    equal, equal_room = [], count - sum(int((key > limit).sum()) for key in keys)
    for key in keys:
        taken = (key > limit).nonzero().flatten()
        ids.append(taken.cpu() + offset)
        values.append(key[taken].cpu())
        ties = (key == limit).nonzero().flatten()[:equal_room].cpu()
        equal_room -= len(ties)
        equal.append(ties + offset)
        offset += key.numel()
    order = torch.sort(torch.cat(values), descending=True, stable=True).indices
    return torch.cat([torch.cat(ids)[order], *equal])


def quantiles(scores: Sequence[Tensor]) -> list[Tensor]:
    """The rank of each score among all, in (0, 1]: (average rank) / n.

    Up to 2^20 scores are sorted. Of more, the rank is read off a histogram over the upper 15 bits of float32 (bins 0.8 %
    wide), in linear time: exact in bins that hold 1/256 of the scores or more, by linear interpolation in the others, so
    that no rank is off by more than 1/256.

    Args:
        scores: Non-negative tensors.

    Returns:
        float32 tensors of the same shapes.

    Raises:
        ValueError: As :func:`order_keys`.
    """
    keys = [order_keys(part) for part in scores]
    if sum(key.numel() for key in keys) <= SORTED:
        flat = torch.cat([key.flatten() for key in keys])
        _, inverse, counts = flat.unique(return_inverse=True, return_counts=True)
        ranks = (_average_ranks(counts)[inverse] / max(len(flat), 1)).float()
        return [part.view(key.shape) for part, key in zip(ranks.split([key.numel() for key in keys]), keys, strict=True)]
    counts = histogram(keys).double()
    below = counts.cumsum(0) - counts
    n = counts.sum()
    result = []
    for key in keys:
        bins, inside = key >> LOW_BITS, ((key & (2**LOW_BITS - 1)).double() + 0.5) / 2**LOW_BITS
        width = counts[bins]
        # a bin of one value holds ranks below + 1; exact zeros share their average rank
        inside = torch.where(key == 0, 0.5, inside)
        result.append(((below[bins] + 0.5 + inside * (width - 1).clamp(min=0) + 0.5) / n).float())
    for high in (counts >= max(HEAVY * float(n), 2)).nonzero().flatten().tolist():
        ranks = (below[high] + _average_ranks(histogram(keys, high))) / n
        for key, part in zip(keys, result, strict=True):
            here = (key >> LOW_BITS) == high
            part[here] = ranks[key[here] & (2**LOW_BITS - 1)].float()
    return result


def _average_ranks(counts: Tensor) -> Tensor:
    """Average rank, counted from 1, of the entries of each bin, in float64."""
    counts = counts.double()
    return counts.cumsum(0) - (counts - 1) / 2


def _keys_or_minus_one(scores: Tensor) -> Tensor:
    """:func:`order_keys` of one tensor, -1 where the score is negative (no candidate)."""
    scores = scores.float().flatten()
    if not torch.isfinite(scores).all():
        raise ValueError('scores must be finite.')
    return torch.where(scores < 0, -1, scores.abs().view(torch.int32))


def tensor_starts(tensors: Iterable[Tensor]) -> list[int]:
    """The flat id of each tensor's first element, and the number of all elements as the last entry."""
    starts = [0]
    for tensor in tensors:
        starts.append(starts[-1] + tensor.numel())
    return starts


def tensor_numbers(ids: Tensor, starts: Sequence[int]) -> Tensor:
    """In which tensor each flat id lies.

    Args:
        ids: Flat ids, ``(K,)`` int64.
        starts: From :func:`tensor_starts`.

    Returns:
        Numbers of tensors, ``(K,)`` int64.
    """
    return torch.bucketize(ids, torch.tensor(starts[1:], device=ids.device), right=True)


def touched_tensors(ids: Tensor, tensors: Mapping[str, Tensor]) -> set[str]:
    """Names of the tensors in which at least one of the flat ids lies."""
    names = list(tensors)
    counts = torch.bincount(tensor_numbers(ids, tensor_starts(tensors.values())), minlength=len(names))
    return {name for name, count in zip(names, counts.tolist(), strict=True) if count}


def check_ranking(ranking: Tensor, tensors: Mapping[str, nn.Parameter], candidates: Sequence[Candidate]) -> None:
    """Refuse what is no ranking of candidate weights.

    Args:
        ranking: Flat ids, best first.
        tensors: The tensors that hold candidates, in the order that defines the ids.
        candidates: The rows that may be selected.

    Raises:
        TypeError: If the ranking is not a tensor of int64.
        ValueError: If it is empty or not 1-D, an id occurs twice or lies outside of the candidates.
    """
    if not isinstance(ranking, Tensor) or ranking.dtype != torch.int64:
        raise TypeError(
            f'the ranking must be an int64 tensor of flat ids, got {getattr(ranking, "dtype", type(ranking).__name__)}.'
        )
    if ranking.ndim != 1 or not len(ranking):
        raise ValueError(f'the ranking must be 1-D and hold at least one flat id, got shape {tuple(ranking.shape)}.')
    starts = tensor_starts(tensors.values())
    ordered = ranking.sort().values
    lowest, highest = int(ordered[0]), int(ordered[-1])
    if lowest < 0 or highest >= starts[-1]:
        raise ValueError(
            f'the ranking holds flat ids from {lowest} to {highest}, but the candidate tensors have {starts[-1]} elements: it '
            'was made for another model.'
        )
    if bool((ordered[1:] == ordered[:-1]).any()):
        raise ValueError('the ranking holds a flat id twice: rank each weight once.')
    rows: dict[str, list[tuple[int, int]]] = {}
    for candidate in candidates:
        rows.setdefault(candidate.parameter, []).append(candidate.rows)
    bounds = torch.searchsorted(ordered, torch.tensor(starts, device=ordered.device)).tolist()
    for number, (name, tensor) in enumerate(tensors.items()):
        width = tensor.numel() // len(tensor)
        own = ordered[bounds[number] : bounds[number + 1]] - starts[number]
        allowed = torch.zeros(len(tensor), dtype=torch.bool, device=own.device)
        for first, last in rows.get(name, ()):
            allowed[first:last] = True
        if not bool(allowed.all()) and not bool(allowed[own // width].all()):
            raise ValueError(
                f'the ranking selects rows of {name} that are no candidates: it was made for other kinds of weights.'
            )
