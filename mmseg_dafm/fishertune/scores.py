"""What an estimation of DR-FIM gives, and the score and the ranking of weights that follow from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmseg_dafm.fishertune.candidates import KINDS, Candidate, narrow
from mmseg_dafm.fishertune.combine import coefficient, delta_f, eq7, eq15, mean_normalised, rank_combined
from mmseg_dafm.fishertune.ranks import largest

FISHER = ('rank', 'eq7', 'eq15', 'mean', 'F', 'dF')
RANDOM = ('random', *(f'random_{kind}' for kind in KINDS))
MAGNITUDE = ('magnitude', 'small_magnitude')
CRITERIA = (*FISHER, *RANDOM, *MAGNITUDE)
# what rounding alone makes of F(x) and F(x') that should be equal: 1e-6 in float32, 1e-16 in float64
SAME = 1e-4


@dataclass
class DomainFisher:
    """Diagonal Fisher information on a source domain and on its simulated shift.

    Attributes:
        clean: F(x) by tensor name, in the tensors' shapes.
        shifted: F(x').
        strengths: (N, 2) noise per image, see :func:`mmseg_dafm.fishertune.combine.coefficient`.
        damping: m = gamma tau^-2, in the units of F.
        tau: Prior standard deviation by tensor.
        meta: How it was estimated: plain values that JSON can hold.
    """

    clean: dict[str, Tensor]
    shifted: dict[str, Tensor]
    strengths: Tensor
    damping: float
    tau: dict[str, float]
    meta: dict = field(default_factory=dict)

    @property
    def gamma(self) -> dict[str, float]:
        """The gamma = m tau^2 of each tensor."""
        return {name: self.damping * tau**2 for name, tau in self.tau.items()}

    @property
    def candidates(self) -> list[Candidate]:
        """The candidates that were estimated, as their file tells.

        Raises:
            ValueError: If the estimation does not tell.
        """
        if 'candidates' not in self.meta:
            raise ValueError('the Fisher scores do not tell their candidates: write them with tools/estimate_dr_fim.py.')
        return [Candidate(name, tuple(rows), *rest) for name, rows, *rest in self.meta['candidates']]

    @property
    def has_shift(self) -> bool:
        """Whether F(x') is more than F(x) with other rounding."""
        norm = lambda parts: math.sqrt(sum(float(part.double().square().sum()) for part in parts))  # noqa: E731
        # one tensor at a time, because a difference of all takes as much memory as F
        apart = norm(self.shifted[name] - part for name, part in self.clean.items())
        return apart > SAME * norm(self.clean.values())

    def check(self) -> None:
        """Refuse an estimation that cannot rank anything.

        Raises:
            ValueError: For NaN or infinite entries, or F = 0 everywhere.
        """
        for what, parts in (('F(x)', self.clean), ("F(x')", self.shifted)):
            bad = [name for name, part in parts.items() if not torch.isfinite(part).all()]
            if bad:
                raise ValueError(f'{what} has NaN or infinite entries in {bad[0]} ({len(bad)} tensors): the loss is not finite.')
            if not any(part.any() for part in parts.values()):
                cause = 'too few or too small steps of sgvb' if self.meta.get('estimator') == 'sgvb' else 'no gradient'
                raise ValueError(f'{what} is zero everywhere: {cause} reaches the candidates.')


def score(criterion: str, fisher: DomainFisher, coef: str | float = 'abs') -> dict[str, Tensor]:
    """Scores of all entries by a criterion of Fisher information.

    Args:
        criterion: ``'rank'`` (default of FisherTune here), ``'eq7'``, ``'eq15'``, ``'mean'``, ``'F'`` or ``'dF'``.
        fisher: The estimation.
        coef: Rule of the coefficient.

    Raises:
        ValueError: For another criterion, or for any but ``'F'`` where F(x) equals F(x') everywhere.
    """
    if criterion in FISHER and criterion != 'F' and not fisher.has_shift:
        raise ValueError(
            f"criterion={criterion!r} compares F(x) with F(x'), which are equal everywhere in these scores "
            f"(estimator={fisher.meta.get('estimator')!r}, shift.factor={fisher.meta.get('factor')}): use criterion='F', or "
            'estimate with a shift.'
        )
    if 'candidates' in fisher.meta and narrow(fisher.clean, fisher.candidates) is not fisher.clean:
        return _score_of_rows(criterion, fisher, coef)
    clean, shifted, m = fisher.clean, fisher.shifted, fisher.damping
    if criterion == 'F':
        return clean
    if criterion == 'dF':
        return delta_f(clean, shifted, m)
    if criterion not in FISHER:
        raise ValueError(f'criterion={criterion!r} is none of {FISHER}.')
    c = coefficient(fisher.strengths, coef)
    if criterion == 'eq7':
        return eq7(clean, shifted, c)
    if criterion == 'eq15':
        return eq15(clean, shifted, c, fisher.gamma, fisher.tau)
    return (rank_combined if criterion == 'rank' else mean_normalised)(clean, shifted, c, m)


def _score_of_rows(criterion: str, fisher: DomainFisher, coef: str | float) -> dict[str, Tensor]:
    """Scores where some rows are no candidates: those count for no rank and no mean, and score 0."""
    rows = fisher.candidates
    parts = [dict(narrow(part, rows)) for part in (fisher.clean, fisher.shifted)]
    own = score(criterion, DomainFisher(*parts, fisher.strengths, fisher.damping, fisher.tau), coef)
    found = {name: torch.zeros_like(part) for name, part in fisher.clean.items()}
    done = dict.fromkeys(found, 0)
    for candidate in rows:
        name, size = candidate.parameter, candidate.rows[1] - candidate.rows[0]
        found[name][slice(*candidate.rows)] = own[name][done[name] : done[name] + size].to(found[name].dtype)
        done[name] += size
    return found


def data_free_score(criterion: str, tensors: Mapping[str, nn.Parameter], seed: int = 0) -> dict[str, Tensor]:
    """Scores that need no data: uniform at random, or |w| (``'small_magnitude'``: the smallest first).

    Raises:
        ValueError: For another criterion.
    """
    if criterion in RANDOM:
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(tensor.shape, generator=generator) for name, tensor in tensors.items()}
    sizes = {name: tensor.detach().abs().float() for name, tensor in tensors.items()}
    if criterion == 'magnitude':
        return sizes
    if criterion == 'small_magnitude':
        peak = max(float(size.max()) for size in sizes.values())
        return {name: peak - size for name, size in sizes.items()}
    raise ValueError(f'criterion={criterion!r} is none of {(*RANDOM, *MAGNITUDE)}.')


def ranking(scores: Mapping[str, Tensor], candidates: Sequence[Candidate], count: int, criterion: str = 'rank') -> Tensor:
    """Flat ids of the ``count`` best candidates, best first.

    Args:
        scores: By tensor name, in the order of :func:`mmseg_dafm.fishertune.candidates.candidate_tensors`.
        candidates: Rows that may be selected; ``random_q`` and its kin narrow them to one kind.
        count: Number of weights.
        criterion: Only for the narrowing.

    Raises:
        ValueError: If there are fewer candidates than ``count``, or scores are not finite.
    """
    kind = criterion.removeprefix('random_') if criterion.startswith('random_') else None
    parts = []
    for name, values in scores.items():
        masked = torch.full_like(values, -1, dtype=torch.float32)
        for candidate in candidates:
            if candidate.parameter == name and kind in (None, candidate.kind):
                rows = slice(*candidate.rows)
                masked[rows] = values[rows].float()
        parts.append(masked.flatten())
    try:
        return largest(parts, count)
    except ValueError as error:
        raise ValueError(f'criterion={criterion!r}: {error}') from None
