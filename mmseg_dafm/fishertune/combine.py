"""DR-FIM: join task sensitivity F and domain sensitivity, element by element, into one score per weight."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mmseg_dafm.fishertune.ranks import quantiles

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
        first, second = F / g + prior, shifted[name] / g + prior
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
