"""Collective operations over processes; without a process group, each returns its input."""

from collections.abc import Iterable, Iterator
from itertools import count as count_up
from itertools import islice

import torch
from torch import Tensor
from torch import distributed as dist

SAME_NUMBER = 'give all the same number, for example by drop_last=True.'
END = object()


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether a flag is set on any process."""
    if world_size() == 1:
        return flag
    tensor = torch.tensor(float(flag), device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return bool(tensor)


def largest(value: float, device: torch.device) -> float:
    """Maximum of a value over all processes."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor.item()


def add_up(vectors: list[Tensor]) -> list[Tensor]:
    """Sum each vector over all processes, in one collective call."""
    if world_size() == 1 or not vectors:
        return vectors
    packed = torch.cat([vector.reshape(-1) for vector in vectors])
    dist.all_reduce(packed)
    parts = packed.split([vector.numel() for vector in vectors])
    return [part.view_as(vector) for part, vector in zip(parts, vectors, strict=True)]


def sum_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def from_first_rank(tensor: Tensor, device: torch.device) -> Tensor:
    """Return rank 0's values on every rank.

    Args:
        tensor: CPU tensor of the same shape and dtype on every rank.
        device: Device of the broadcast: CPU for gloo, the GPU for NCCL.
    """
    if world_size() == 1:
        return tensor
    sent = tensor.to(device)
    dist.broadcast(sent, 0)
    return sent.cpu()


def same_everywhere(tensors: list[Tensor]) -> None:
    """Overwrite the tensors of every rank with rank 0's, bit for bit."""
    if world_size() == 1:
        return
    packed = torch.cat([tensor.detach().double().reshape(-1) for tensor in tensors])
    dist.broadcast(packed, 0)
    with torch.no_grad():
        for tensor, part in zip(tensors, packed.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def in_step(batches: Iterable, limit: int | None, device: torch.device) -> Iterator:
    """Yield up to ``limit`` batches, the same number on every rank.

    Ranks with unequal numbers of batches would wait for each other forever, so they are refused. If all ranks know their
    length, this happens before the first batch. Otherwise it happens after the last common batch, at the cost of one small
    reduction per batch.

    Args:
        batches: This rank's batches, with a length or without.
        limit: Largest number of batches; None: all.
        device: Device of the collective calls.

    Raises:
        ValueError: On every rank, if the numbers of batches differ.
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
    """Number of batches to take; None if the iterable has no length."""
    try:
        length = len(batches)
    except TypeError:  # generators, and loaders of data sets without length
        return None
    return length if limit is None else min(length, limit)


def _while_all_have_one(batches: Iterator, device: torch.device) -> Iterator:
    """Yield batches until all ranks are done; refuse if some ranks are done earlier than others."""
    for count in count_up():
        batch = next(batches, END)
        some = largest(batch is not END, device)
        if some and largest(batch is END, device):
            raise ValueError(f'some ranks have {count} batches and others more: {SAME_NUMBER}')
        if not some:
            return
        yield batch
