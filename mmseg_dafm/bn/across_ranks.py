"""Join moments and estimates of several processes; without a process group every function returns what it is given."""

from collections.abc import Iterable, Iterator
from itertools import count as count_up
from itertools import islice

import torch
from torch import Tensor
from torch import distributed as dist

from mmseg_dafm.bn.estimators import BatchEstimator, PooledEstimator
from mmseg_dafm.bn.moments import Moments

SAME_NUMBER = 'give all the same number, for example by drop_last=True.'
END = object()


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def largest(value: float, device: torch.device) -> float:
    """The largest of the ranks' values."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor.item()


def add_up(vectors: list[Tensor]) -> list[Tensor]:
    """Sums of the ranks' vectors, in one collective call."""
    if world_size() == 1 or not vectors:
        return vectors
    packed = torch.cat([vector.reshape(-1) for vector in vectors])
    dist.all_reduce(packed)
    parts = packed.split([vector.numel() for vector in vectors])
    return [part.view_as(vector) for part, vector in zip(parts, vectors, strict=True)]


def join_moments(parts: list[Moments]) -> list[Moments]:
    """Moments of the union of all ranks' values: of the global batch, where ``parts`` are layers' moments of one batch."""
    if world_size() == 1 or not parts:
        return parts
    counts = add_up([part.count for part in parts])
    sums = add_up([part.count * part.mean for part in parts])
    means = [total / count.clamp(min=1) for total, count in zip(sums, counts, strict=True)]
    within = [part.m2 + part.count * (part.mean - mean).square() for part, mean in zip(parts, means, strict=True)]
    return [Moments(*joined) for joined in zip(counts, means, add_up(within), strict=True)]


def join_estimators(estimators: dict[str, BatchEstimator | PooledEstimator], channels: dict[str, int], device) -> None:
    """Make the estimators of all ranks those of all batches together.

    Args:
        estimators: name -> estimator, the same names on every rank; empty where the rank saw no batch.
        channels: name -> C.
        device: Where the collective calls run.
    """
    if world_size() == 1:
        return
    calls = [(each.batches, each.left_out) for each in estimators.values()]
    counts = add_up([torch.tensor(pair, dtype=torch.float64, device=device) for pair in calls])
    for estimator, count in zip(estimators.values(), counts, strict=True):
        estimator.batches, estimator.left_out = map(int, count)
    zero = lambda size: torch.zeros(size, dtype=torch.float64, device=device)  # noqa: E731
    items = list(estimators.items())
    if all(isinstance(each, BatchEstimator) for each in estimators.values()):
        vectors = [each.pack() if each.sums is not None else zero(1 + 2 * channels[name]) for name, each in items]
        for (_, estimator), vector in zip(items, add_up(vectors), strict=True):
            estimator.unpack(vector)
        return
    nothing = lambda name: Moments(zero(()), zero(channels[name]), zero(channels[name]))  # noqa: E731
    parts = [each.moments if each.moments is not None else nothing(name) for name, each in items]
    for (_, estimator), moments in zip(items, join_moments(parts), strict=True):
        estimator.moments = moments


def same_everywhere(tensors: list[Tensor]) -> None:
    """Overwrite the tensors of every rank with rank 0's, to the last bit."""
    if world_size() == 1:
        return
    packed = torch.cat([tensor.detach().double().reshape(-1) for tensor in tensors])
    dist.broadcast(packed, 0)
    with torch.no_grad():
        for tensor, part in zip(tensors, packed.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def in_step(batches: Iterable, limit: int | None, device: torch.device) -> Iterator:
    """Yield up to ``limit`` batches, the same number on every rank.

    Loaders of unequal length, whose ranks would wait for each other for ever, are refused: before the first batch where all
    ranks know their length, else after the last one that all of them have, which takes one small reduction per batch.

    Args:
        batches: This rank's batches, with a length or without.
        limit: How many to take at most; None takes all.
        device: Where the collective calls run.

    Raises:
        ValueError: On every rank, with the numbers of batches.
    """
    batches, length = islice(batches, limit), _length(batches, limit)
    if world_size() == 1:
        yield from batches
        return
    if largest(length is None, device):
        yield from _while_all_have_one(batches, device)
        return
    longest, shortest = largest(length, device), -largest(-length, device)
    if shortest != longest:
        raise ValueError(f'the ranks have {shortest:.0f} to {longest:.0f} batches: {SAME_NUMBER}')
    yield from batches


def _length(batches: Iterable, limit: int | None) -> int | None:
    """How many batches will be taken; None if the iterable cannot tell."""
    try:
        length = len(batches)
    except TypeError:  # of a generator, and of a DataLoader whose data set has no length
        return None
    return length if limit is None else min(length, limit)


def _while_all_have_one(batches: Iterator, device: torch.device) -> Iterator:
    """Yield batches as long as no rank is out of them; refuse if some are and some are not."""
    for count in count_up():
        batch = next(batches, END)
        some = largest(batch is not END, device)
        if some and largest(batch is END, device):
            raise ValueError(f'some ranks have {count} batches and others more: {SAME_NUMBER}')
        if not some:
            return
        yield batch
