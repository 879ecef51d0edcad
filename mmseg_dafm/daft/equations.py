"""Equations 3 to 5 of DAFT, on plain tensors."""

import torch
from torch import Tensor


def unbiased_variance(m2: Tensor, count: Tensor) -> Tensor:
    """Bessel's correction of one batch: ``m2 / (m - 1)`` = ``m / (m - 1) * sigma^2``, in equation 3.

    Args:
        m2: Sum of squared deviations ``(C,)``.
        count: m, at least 2.
    """
    return m2 / (count - 1)


def convert_parameters(
    gamma: Tensor, beta: Tensor, source_mean: Tensor, source_var: Tensor, target_mean: Tensor, target_var: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Rewrite gamma and beta so that other statistics give the same eval-mode function.

        gamma_t = gamma_s * sqrt(S_t + eps) / sqrt(S_s + eps)
        beta_t  = beta_s + gamma_s * (M_t - M_s) / sqrt(S_s + eps)

    Then ``gamma_t (z - M_t) / sqrt(S_t + eps) + beta_t`` equals ``gamma_s (z - M_s) / sqrt(S_s + eps) + beta_s`` for
    every z and for *any* M_t and S_t >= 0 (equation 4): that the function is kept says nothing about the statistics.

    Args:
        gamma: gamma_s ``(C,)``, any sign, zero included.
        beta: beta_s ``(C,)``.
        source_mean: M_s ``(C,)``.
        source_var: S_s ``(C,)``, at least 0.
        target_mean: M_t ``(C,)``.
        target_var: S_t ``(C,)``, at least 0.
        eps: The layer's epsilon, above 0.

    Returns:
        gamma_t and beta_t ``(C,)`` in float64; the inputs are not touched.

    Source: DAFT, equations 4 and 5.
    """
    gamma, beta, source_mean, source_var, target_mean, target_var = (
        value.detach().double() for value in (gamma, beta, source_mean, source_var, target_mean, target_var)
    )
    scale = gamma / (source_var + eps).sqrt()
    return scale * (target_var + eps).sqrt(), beta + scale * (target_mean - source_mean)


def gain_ratio(source_var: Tensor, target_var: Tensor, eps: float) -> Tensor:
    """``gamma_t / gamma_s = sqrt(S_t + eps) / sqrt(S_s + eps)`` ``(C,)``, float64; defined where gamma_s is 0, too."""
    return ((target_var.double() + eps) / (source_var.double() + eps)).sqrt()


def mean_shift(source_mean: Tensor, source_var: Tensor, target_mean: Tensor, eps: float) -> Tensor:
    """``|M_t - M_s| / sqrt(S_s + eps)`` ``(C,)``, float64, in standard deviations of the source."""
    return (target_mean.double() - source_mean.double()).abs() / (source_var.double() + eps).sqrt()


def mix_statistics(source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], source_weight: float) -> tuple[Tensor, Tensor]:
    """Weighted mean of source and target statistics: ``a * source + (1 - a) * target`` for mean and variance alike.

    Args:
        source: (M_s, S_s), ``(C,)`` each.
        target: (M_t, S_t), ``(C,)`` each.
        source_weight: a in [0, 1]; 0 is the target alone, as in DAFT.

    Returns:
        Mixed mean and variance in float64.

    Source: the mixture N / (N + 1) of Schneider et al., "Improving robustness against common corruptions by covariate
    shift adaptation", NeurIPS 2020, with a free weight.
    """
    return tuple(torch.lerp(new.double(), old.double(), source_weight) for old, new in zip(source, target, strict=True))
