"""Flat ids: one number for each element of the tensors that hold candidates."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmseg_dafm.fishertune.candidates import Candidate


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
