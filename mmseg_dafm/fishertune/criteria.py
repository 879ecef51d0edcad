"""Scores of weights: equations 5, 7 and 15, their scale-free variants, and the ranking that follows from them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmseg_dafm.fishertune.candidates import KINDS, Candidate, narrow
from mmseg_dafm.fishertune.selection import largest, quantiles
from mmseg_dafm.fishertune.variational import gamma_of, precision_of

EPS = 1e-8  # of equation 5
Scores = dict[str, Tensor]


def relative_change(clean: Tensor, shifted: Tensor, damping: float = 0.0, eps: float = EPS) -> Tensor:
    """Delta F = |F(x) - F(x')| / (min(F(x), F(x')) + m + eps), per element.

    Args:
        clean: F(x), >= 0, any shape.
        shifted: F(x') of the same shape.
        damping: m = gamma tau^-2 in the units of F. 0 is equation 5 as printed, whose absolute eps changes its meaning with
            the scale of the loss; m > 0 is what equation 15 does to the denominator.
        eps: The constant of equation 5.

    Source: FisherTune, equations 5 and 15.
    """
    return (clean - shifted).abs() / (torch.minimum(clean, shifted) + (damping + eps))


def coefficient(strengths: Tensor | None, rule: str | float = 'abs') -> float:
    """The weight of the domain-sensitive term, exp(-(eps_mu + eps_sigma)) averaged over images.

    Args:
        strengths: (N, 2): per image the mean over channels of eps_mu + eps_sigma, and of |eps_mu| + |eps_sigma|.
        rule: ``'abs'`` uses magnitudes: a large shift is scaled down, as the text says. ``'raw'`` is the printed formula, with
            which a large *negative* noise makes the weight grow. A number is taken as it is.

    Raises:
        ValueError: Unknown rule, or no strengths to apply it to.

    With ``noise='channel'`` the mean over hundreds of channels hardly varies: ``'abs'`` is close to exp(-2 sqrt(2 / pi)) = 0.20
    (``'raw'``: 1) for any data and any ``factor``.

    Source: FisherTune, equation 7. Deviation: eps has one value per channel, and an exponent must be a number: the mean.
    """
    if isinstance(rule, int | float) and not isinstance(rule, bool):
        if not math.isfinite(rule) or rule < 0:
            raise ValueError(f'coef={rule} must be a number of 0 or more.')
        return float(rule)
    if rule not in ('abs', 'raw'):
        raise ValueError(f"coef={rule!r} is unknown: use 'abs', 'raw' or a number.")
    if strengths is None or not len(strengths):
        raise ValueError(f'coef={rule!r} needs the strengths of the perturbation; give a number.')
    return float(torch.exp(-strengths[:, 1 if rule == 'abs' else 0].double()).mean())


def coef_of(text: str) -> str | float:
    """A rule of :func:`coefficient` from a command line.

    Raises:
        ValueError: If it is none.
    """
    if text in ('abs', 'raw'):
        return text
    try:
        return coefficient(None, float(text))
    except ValueError:
        raise ValueError(f'--coef {text!r} must be abs, raw or a number of 0 or more.') from None


def mean_of(scores: Mapping[str, Tensor]) -> float:
    """Mean over all entries of all tensors."""
    return sum(float(part.double().sum()) for part in scores.values()) / sum(part.numel() for part in scores.values())


def damping_of(clean: Mapping[str, Tensor], factor: float = 1.0) -> float:
    """Damping m: ``factor`` times the mean of F(x) over all candidates, which scales with the loss."""
    return factor * mean_of(clean)


def eq7(clean: Scores, shifted: Scores, c: float) -> Scores:
    """DRF = F(x) + c |F(x) - F(x')| / (min + eps), verbatim.

    F has the units loss^2 / theta^2 and the second term none; in practice the second decides alone.

    Source: FisherTune, equation 7.
    """
    return {name: F + c * relative_change(F, shifted[name]) for name, F in clean.items()}


def eq15(clean: Scores, shifted: Scores, c: float, gamma: Mapping[str, float], tau: Mapping[str, float]) -> Scores:
    """DRF = gamma (Lambda_x - tau^-2 + c |Lambda_x - Lambda_x'| / (min Lambda + eps / gamma)), verbatim.

    Args:
        clean: F(x); Lambda = F / gamma + tau^-2 by equation 14.
        shifted: F(x').
        c: The coefficient.
        gamma: Of each tensor.
        tau: Of each tensor.

    Source: FisherTune, equation 15.
    """
    result = {}
    for name, F in clean.items():
        g, prior = gamma[name], tau[name] ** -2
        first, second = (precision_of(part, g, tau[name]) for part in (F, shifted[name]))
        change = (F - shifted[name]).abs() / g
        result[name] = g * (first - prior + c * change / (torch.minimum(first, second) + EPS / g))
    return result


def mean_normalised(clean: Scores, shifted: Scores, c: float, damping: float) -> Scores:
    """F / mean(F) + c Delta F / mean(Delta F), with damped Delta F. The heavy tail of F decides most of its top."""
    change = delta_f(clean, shifted, damping)
    scale, change_scale = mean_of(clean) or 1.0, mean_of(change) or 1.0
    return {name: F / scale + c * change[name] / change_scale for name, F in clean.items()}


def rank_combined(clean: Scores, shifted: Scores, c: float, damping: float) -> Scores:
    """rank(F) + c rank(Delta F), ranks in (0, 1] over all candidates, with damped Delta F: the default.

    Deviation: Equations 7 and 15 add quantities of different units, so an accident of scale decides which one counts.
    Ranks have none.
    """
    names, change = list(clean), delta_f(clean, shifted, damping)
    first, second = quantiles([clean[name] for name in names]), quantiles([change[name] for name in names])
    return {name: a + c * b for name, a, b in zip(names, first, second, strict=True)}


def delta_f(clean: Scores, shifted: Scores, damping: float) -> Scores:
    """Delta F of all tensors, damped; an absolute constant has no place beside a damping in the units of F."""
    return {name: relative_change(F, shifted[name], damping, eps=0.0) for name, F in clean.items()}


# what rounding alone makes of F(x) and F(x') that should be equal: 1e-6 in float32, 1e-16 in float64
SAME = 1e-4


@dataclass
class DomainFisher:
    """Diagonal Fisher information on a source domain and on its simulated shift.

    Attributes:
        clean: F(x) by tensor name, in the tensors' shapes.
        shifted: F(x').
        strengths: (N, 2) noise per image, see :func:`mmseg_dafm.fishertune.criteria.coefficient`.
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
        return {name: gamma_of(self.damping, tau) for name, tau in self.tau.items()}

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


@dataclass(frozen=True)
class Criterion:
    """A way to score weights.

    Attributes:
        function: With data ``(fisher, coef) -> scores``, without ``(tensors, seed) -> scores``; scores are tensors by name, at
            least 0, and the largest are selected.
        needs_data: Whether Fisher information is estimated.
        needs_shift: Whether F(x') must be another than F(x).
        kind: The only kind of weight that may be selected, None for all.
    """

    function: Callable[..., Scores]
    needs_data: bool = True
    needs_shift: bool = True
    kind: str | None = None


CRITERIA: dict[str, Criterion] = {}


def register_criterion(name: str, **options) -> Callable[[Callable[..., Scores]], Callable[..., Scores]]:
    """Make a function a criterion that configs and tools can name.

    Args:
        name: Its name, as in ``FisherTuneHook(criterion=name)``.
        **options: ``needs_data``, ``needs_shift`` and ``kind`` of :class:`Criterion`.

    Raises:
        ValueError: If the name is taken.
    """

    def register(function: Callable[..., Scores]) -> Callable[..., Scores]:
        if name in CRITERIA:
            raise ValueError(f'there is a criterion {name!r} already: take another name.')
        CRITERIA[name] = Criterion(function, **options)
        return function

    return register


def fisher_criteria() -> tuple[str, ...]:
    """Names of the criteria that need Fisher information."""
    return tuple(name for name, criterion in CRITERIA.items() if criterion.needs_data)


@register_criterion('rank')
def _rank(fisher: DomainFisher, coef: str | float) -> Scores:
    return rank_combined(fisher.clean, fisher.shifted, coefficient(fisher.strengths, coef), fisher.damping)


@register_criterion('eq7')
def _eq7(fisher: DomainFisher, coef: str | float) -> Scores:
    return eq7(fisher.clean, fisher.shifted, coefficient(fisher.strengths, coef))


@register_criterion('eq15')
def _eq15(fisher: DomainFisher, coef: str | float) -> Scores:
    return eq15(fisher.clean, fisher.shifted, coefficient(fisher.strengths, coef), fisher.gamma, fisher.tau)


@register_criterion('mean')
def _mean(fisher: DomainFisher, coef: str | float) -> Scores:
    return mean_normalised(fisher.clean, fisher.shifted, coefficient(fisher.strengths, coef), fisher.damping)


@register_criterion('F', needs_shift=False)
def _f(fisher: DomainFisher, coef: str | float) -> Scores:
    return fisher.clean


@register_criterion('dF')
def _df(fisher: DomainFisher, coef: str | float) -> Scores:
    return delta_f(fisher.clean, fisher.shifted, fisher.damping)


def _random(tensors: Mapping[str, Tensor], seed: int) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(tensor.shape, generator=generator) for name, tensor in tensors.items()}


register_criterion('random', needs_data=False, needs_shift=False)(_random)
for _kind in KINDS:
    register_criterion(f'random_{_kind}', needs_data=False, needs_shift=False, kind=_kind)(_random)


@register_criterion('magnitude', needs_data=False, needs_shift=False)
def _magnitude(tensors: Mapping[str, Tensor], seed: int) -> Scores:
    return {name: tensor.detach().abs().float() for name, tensor in tensors.items()}


@register_criterion('small_magnitude', needs_data=False, needs_shift=False)
def _small_magnitude(tensors: Mapping[str, Tensor], seed: int) -> Scores:
    sizes = _magnitude(tensors, seed)
    peak = max(float(size.max()) for size in sizes.values())
    return {name: peak - size for name, size in sizes.items()}


def find_criterion(name: str) -> Criterion:
    """The criterion of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in CRITERIA:
        raise ValueError(f'criterion={name!r} is unknown: use one of {tuple(CRITERIA)}.')
    return CRITERIA[name]


def score(criterion: str, fisher: DomainFisher, coef: str | float = 'abs') -> Scores:
    """Scores of all entries by a criterion of Fisher information.

    Args:
        criterion: One that needs data, see :func:`fisher_criteria`.
        fisher: The estimation.
        coef: Rule of the coefficient.

    Raises:
        ValueError: If the criterion is unknown or needs no data, or if it needs a shift and F(x) equals F(x') everywhere.
    """
    chosen = find_criterion(criterion)
    if not chosen.needs_data:
        raise ValueError(f'criterion={criterion!r} takes no Fisher information: use one of {fisher_criteria()}.')
    if chosen.needs_shift and not fisher.has_shift:
        raise ValueError(
            f"criterion={criterion!r} compares F(x) with F(x'), which are equal everywhere in these scores "
            f"(estimator={fisher.meta.get('estimator')!r}, shift.factor={fisher.meta.get('factor')}): use criterion='F', or "
            'estimate with a shift.'
        )
    if 'candidates' in fisher.meta and narrow(fisher.clean, fisher.candidates) is not fisher.clean:
        return _score_of_rows(criterion, fisher, coef)
    return chosen.function(fisher, coef)


def _score_of_rows(criterion: str, fisher: DomainFisher, coef: str | float) -> dict[str, Tensor]:
    """Scores where some rows are no candidates: those count for no rank and no mean, and score 0."""
    rows = fisher.candidates
    clean, shifted = (dict(narrow(part, rows)) for part in (fisher.clean, fisher.shifted))
    own = score(criterion, DomainFisher(clean, shifted, fisher.strengths, fisher.damping, fisher.tau), coef)
    found = {name: torch.zeros_like(part) for name, part in fisher.clean.items()}
    done = dict.fromkeys(found, 0)
    for candidate in rows:
        name, size = candidate.parameter, candidate.rows[1] - candidate.rows[0]
        found[name][slice(*candidate.rows)] = own[name][done[name] : done[name] + size].to(found[name].dtype)
        done[name] += size
    return found


def data_free_score(criterion: str, tensors: Mapping[str, nn.Parameter], seed: int = 0) -> Scores:
    """Scores that need no data.

    Args:
        criterion: One that needs no data.
        tensors: The weights.
        seed: Seeds random scores.

    Raises:
        ValueError: If the criterion is unknown or needs data.
    """
    chosen = find_criterion(criterion)
    if chosen.needs_data:
        raise ValueError(f'criterion={criterion!r} needs Fisher information.')
    return chosen.function(tensors, seed)


def ranking(scores: Mapping[str, Tensor], candidates: Sequence[Candidate], count: int, criterion: str = 'rank') -> Tensor:
    """Flat ids of the ``count`` best candidates, best first.

    Args:
        scores: By tensor name, in the order of :func:`mmseg_dafm.fishertune.candidates.candidate_tensors`.
        candidates: Rows that may be selected; ``random_q`` and its kin narrow them to one kind.
        count: Number of weights.
        criterion: Its ``kind`` narrows the candidates.

    Raises:
        ValueError: If there are fewer candidates than ``count``, or scores are not finite.
    """
    kind = find_criterion(criterion).kind
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
