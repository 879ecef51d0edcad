"""Which process takes which images, and sums over processes."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch import distributed as dist

from mmseg_dafm.bn.across_ranks import world_size

# (number of the group, numbers of its images)
Group = tuple[int, list[int]]


def plan(images: int, batch: int, blocks: int, rank: int = 0, world: int = 1) -> list[list[Group]]:
    """Split images into groups of ``batch``, groups into ``blocks``, and take this rank's share of each block.

    Groups and blocks do not depend on the number of processes; only who computes them does.

    Args:
        images: How many, numbered from 0.
        batch: Images that share a pass and a draw of the weights.
        blocks: Between blocks all processes join what they have.
        rank: Of this process.
        world: Number of processes.

    Raises:
        ValueError: If a number is not positive.
    """
    if min(images, batch, blocks, world) < 1:
        raise ValueError(f'images={images}, batch_size={batch} and blocks={blocks} must all be at least 1.')
    groups = [(g, list(range(g * batch, min((g + 1) * batch, images)))) for g in range(-(-images // batch))]
    blocks = min(blocks, len(groups))
    borders = [len(groups) * b // blocks for b in range(blocks + 1)]
    return [
        [group for group in groups[start:stop] if group[0] % world == rank]
        for start, stop in zip(borders, borders[1:], strict=False)
    ]


def sum_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether a flag is set on some process."""
    if world_size() == 1:
        return flag
    tensor = torch.tensor(float(flag), device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return bool(tensor)


def from_first_rank(tensor: Tensor, device: torch.device) -> Tensor:
    """Rank 0's values on every rank, through ``device``, where the collective calls run.

    Args:
        tensor: On the CPU; of the same shape and type on every rank.
        device: CPU for gloo, the GPU for NCCL.
    """
    if world_size() == 1:
        return tensor
    sent = tensor.to(device)
    dist.broadcast(sent, 0)
    return sent.cpu()
