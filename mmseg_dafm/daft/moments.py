"""Moments of one batch, and the exact merge of moments of several."""

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Moments of m values per channel.

    Attributes:
        count: m, a float64 scalar tensor.
        mean: mu ``(C,)``, float64.
        m2: sum of squared deviations from mu ``(C,)``, float64; the biased variance is ``m2 / count``.
    """

    count: Tensor
    mean: Tensor
    m2: Tensor


def batch_moments(x: Tensor) -> Moments:
    """Moments over batch and positions: equation 2 with ``m = N * H * W``.

        mu = 1/m sum_i z_i,    m2 = sum_i (z_i - mu)^2

    Half precision is widened to float32 first; float64 stays float64. Nothing is ever computed as E[z^2] - mu^2, which
    loses all digits once the mean is a few thousand standard deviations.

    Args:
        x: Input of a batch norm layer, ``(N, C)`` or ``(N, C, *)``, any unit.

    Returns:
        The moments in float64, on the device of ``x``.

    Source: DAFT, equation 2. ``m`` is the number of values per channel, as in torch's own running variance, not the
    number of images: with m the images, the variance of a convolution's maps would come out 1/(N-1) too large.
    """
    x = x.detach()
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    axes = [axis for axis in range(x.ndim) if axis != 1]
    count = x.numel() // x.shape[1]
    if x.device.type == 'cpu':
        # Two passes over vectorised kernels; torch.var_mean is as accurate and about ten times slower here.
        mean = x.mean(axes)
        m2 = (x - mean.view(1, -1, *[1] * (x.ndim - 2))).square_().mean(axes).double() * count
    else:
        variance, mean = torch.var_mean(x, axes, correction=0)
        m2 = variance.double() * count
    return Moments(torch.tensor(count, dtype=torch.float64, device=x.device), mean.double(), m2)


def merge(parts: list[Moments]) -> Moments:
    """Moments of the union of disjoint groups of values, by the law of total variance.

        m = sum_k m_k,   mu = sum_k m_k mu_k / m,   m2 = sum_k [m2_k + m_k (mu_k - mu)^2]

    Args:
        parts: One or more groups.

    Returns:
        Exact up to float64 rounding, whatever the order and the sizes.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """
    if len(parts) == 1:
        return parts[0]
    counts = torch.stack([part.count for part in parts])
    means = torch.stack([part.mean for part in parts])
    count = counts.sum()
    mean = (counts[:, None] * means).sum(0) / count
    m2 = torch.stack([part.m2 for part in parts]).sum(0) + (counts[:, None] * (means - mean).square()).sum(0)
    return Moments(count, mean, m2)
