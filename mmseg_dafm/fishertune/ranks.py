"""Ranks and largest entries of hundreds of millions of scores, without sorting them."""

from collections.abc import Sequence

import torch
from torch import Tensor

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
    total = None
    for key in keys:
        part = key >> LOW_BITS if high is None else key[(key >> LOW_BITS) == high] & (2**LOW_BITS - 1)
        size = 2**HIGH_BITS if high is None else 2**LOW_BITS
        counts = torch.bincount(part.flatten(), minlength=size)
        total = counts if total is None else total + counts
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
    for high in (counts >= max(HEAVY * n, 2)).nonzero().flatten().tolist():
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
