"""How much of each block's query, key, value and feed-forward weights is selected."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from mmseg_dafm.fishertune.candidates import Candidate
from mmseg_dafm.fishertune.selection import tensor_starts


@dataclass(frozen=True)
class Part:
    """One kind of weight of one block.

    Attributes:
        block: Number of the block.
        kind: ``'q'``, ``'k'``, ``'v'`` or ``'ffn'``.
        weights: Number of candidates.
        selected: How many of them are in the ranking.
        mean: Mean score, None without scores.
    """

    block: int
    kind: str
    weights: int
    selected: int
    mean: float | None

    @property
    def share(self) -> float:
        """Selected share of the part's weights."""
        return self.selected / self.weights

    def to_dict(self) -> dict:
        """Plain values, the share among them."""
        return {**asdict(self), 'share': self.share}


def summarise(
    ranking: Tensor,
    tensors: Mapping[str, Tensor],
    candidates: Sequence[Candidate],
    scores: Mapping[str, Tensor] | None = None,
) -> list[Part]:
    """Sum up a ranking by block and kind.

    Args:
        ranking: Flat ids.
        tensors: The tensors that hold candidates, in the order that defines the ids.
        candidates: What may be selected.
        scores: By tensor name; their means are given where they are.
    """
    starts = dict(zip(tensors, tensor_starts(tensors.values()), strict=False))
    ordered = ranking.sort().values
    found: dict[tuple[int, str], tuple[int, int, float]] = {}
    for candidate in candidates:
        tensor = tensors[candidate.parameter]
        width = tensor.numel() // len(tensor)
        first, last = (starts[candidate.parameter] + row * width for row in candidate.rows)
        inside = torch.searchsorted(ordered, torch.tensor([first, last]))
        weights, selected, total = found.get((candidate.block, candidate.kind), (0, 0, 0.0))
        if scores is not None:
            total += float(scores[candidate.parameter][slice(*candidate.rows)].double().sum())
        weights, selected = weights + last - first, selected + int(inside[1] - inside[0])
        found[candidate.block, candidate.kind] = weights, selected, total
    return [
        Part(block, kind, weights, selected, total / weights if scores is not None else None)
        for (block, kind), (weights, selected, total) in sorted(found.items(), key=lambda item: (item[0][0], _place(item[0][1])))
    ]


def table(parts: Sequence[Part]) -> str:
    """Selected share of each kind in each block, in percent, and of all, as a text table."""
    kinds = sorted({part.kind for part in parts}, key=_place)
    at = {(part.block, part.kind): part for part in parts}
    rows = [('block', *kinds)]
    for block in sorted({part.block for part in parts}):
        shares = (at.get((block, kind)) for kind in kinds)
        rows.append((str(block), *(f'{100 * part.share:.2f} %' if part else '-' for part in shares)))
    sums = {kind: [part for part in parts if part.kind == kind] for kind in kinds}
    total = (sum(p.selected for p in own) / sum(p.weights for p in own) for own in sums.values())
    rows.append(('all', *(f'{100 * share:.2f} %' for share in total)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return '\n'.join('  '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def jaccard(first: Tensor, second: Tensor) -> float:
    """|A and B| / |A or B| of two rankings of distinct flat ids."""
    both = len(first) + len(second) - len(torch.cat([first, second]).unique())
    return both / (len(first) + len(second) - both)


def _place(kind: str) -> int:
    return ('q', 'k', 'v', 'ffn').index(kind)
