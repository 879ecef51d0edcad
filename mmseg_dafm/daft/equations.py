"""Equations 3 to 6 of DAFT on plain tensors: moments of batches, target statistics, conversion, size of the change."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmseg_dafm.core.processes import add_up, world_size


class Moments(NamedTuple):
    """Moments of m values per channel.

    Attributes:
        count: m, a float64 scalar tensor.
        mean: mu ``(C,)``, float64.
        m2: sum of squared deviations from mu ``(C,)``, float64; the biased variance is ``m2 / count``.
    """

    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody calls
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
    mean, variance = (torch.lerp(new.double(), old.double(), source_weight) for old, new in zip(source, target, strict=True))
    return mean, variance


class BatchEstimator:
    """Equation 3: the mean over batches of the batch mean, and of the unbiased batch variance.

        M_t = E_B[mu],    S_t = E_B[m / (m - 1) sigma^2]

    This is what the running statistics of training converge to, if the batches have the size that one normalisation
    group has in training. It leaves out the variance *between* batches: with one image per batch a fifth or more of the
    pooled variance. A batch in which the layer sees one value per channel, such as a last batch of one image after global
    pooling, has no variance and is left out.

    Deviation: the paper's expectation, and the running statistics of training, weigh calls: a smaller last batch, or the
    small map of a layer that is called at two scales, weighs like a full one. By default the weight here is the number of
    values. For calls of equal size the two agree.

    Args:
        weigh: ``'values'``, or ``'calls'``.

    Attributes:
        batches: Calls that count.
        left_out: Calls with one value per channel.

    Source: DAFT, equation 3.
    """

    def __init__(self, weigh: str = 'values') -> None:
        self.weigh = weigh
        self.sums: list[Tensor] | None = None
        self.batches = self.left_out = 0

    def add(self, moments: Moments) -> None:
        """Count one batch in."""
        if moments.count < 2:
            self.left_out += 1
            return
        self.batches += 1
        variance = unbiased_variance(moments.m2, moments.count)
        weight = moments.count.clone() if self.weigh == 'values' else torch.ones_like(moments.count)
        new = [weight, weight * moments.mean, weight * variance]
        if self.sums is None:
            self.sums = new
        else:
            for total, value in zip(self.sums, new, strict=True):
                total += value

    def pack(self) -> Tensor:
        """The sums as one float64 vector ``(1 + 2 C,)``; adding the vectors of several ranks joins their batches."""
        count, means, variances = self._sums()
        return torch.cat([count.view(1), means, variances])

    def unpack(self, vector: Tensor) -> None:
        """Take over what :meth:`pack` gave, added up over ranks."""
        channels = (vector.numel() - 1) // 2
        self.sums = [vector[0], *vector[1:].split(channels)]

    def result(self) -> tuple[Tensor, Tensor]:
        """(M_t, S_t), ``(C,)`` each, float64."""
        count, means, variances = self._sums()
        return means / count, variances / count

    def _sums(self) -> list[Tensor]:
        """The sums, which are there once a batch counts."""
        assert self.sums is not None
        return self.sums


class PooledEstimator:
    """Mean and unbiased variance of all values together, whatever the batches were.

        M_t = 1/m sum_i z_i,    S_t = 1/(m - 1) sum_i (z_i - M_t)^2    over all batches

    The limit of equation 3 for large batches, exact and independent of batch size and order; to be used where only one
    image fits into a batch.

    Deviation from equation 3: the variance between batches counts, too.
    """

    left_out = 0

    def __init__(self) -> None:
        self.moments: Moments | None = None
        self.batches = 0

    def add(self, moments: Moments) -> None:
        """Count one batch in."""
        self.batches += 1
        self.moments = moments if self.moments is None else merge([self.moments, moments])

    def result(self) -> tuple[Tensor, Tensor]:
        """(M_t, S_t), ``(C,)`` each, float64.

        Raises:
            ValueError: If there was one value per channel in all.
        """
        assert self.moments is not None  # as soon as a batch was counted
        if self.moments.count < 2:
            raise ValueError('saw one value per channel in all batches together, which has no variance: use more images')
        return self.moments.mean, unbiased_variance(self.moments.m2, self.moments.count)


ESTIMATORS = {'batch': BatchEstimator, 'pooled': PooledEstimator}
WEIGHTS = ('values', 'calls')


def make_estimator(kind: str, weigh: str = 'values') -> BatchEstimator | PooledEstimator:
    """A fresh estimator.

    Raises:
        ValueError: If one of the names is unknown, or the two do not fit.
    """
    if kind not in ESTIMATORS:
        raise ValueError(f'estimator={kind!r} is unknown: use one of {sorted(ESTIMATORS)}.')
    if weigh not in WEIGHTS:
        raise ValueError(f'weigh={weigh!r} is unknown: use one of {WEIGHTS}.')
    if kind == 'batch':
        return BatchEstimator(weigh)
    if weigh != 'values':
        raise ValueError(f"weigh={weigh!r} needs estimator='batch': the pooled variance knows values alone.")
    return PooledEstimator()


def join_moments(parts: list[Moments]) -> list[Moments]:
    """Moments of the union of all ranks' values: of the global batch, where ``parts`` are layers' moments of one batch."""
    if world_size() == 1 or not parts:
        return parts
    counts = add_up([part.count for part in parts])
    sums = add_up([part.count * part.mean for part in parts])
    means = [total / count.clamp(min=1) for total, count in zip(sums, counts, strict=True)]
    within = [part.m2 + part.count * (part.mean - mean).square() for part, mean in zip(parts, means, strict=True)]
    return [Moments(*joined) for joined in zip(counts, means, add_up(within), strict=True)]


def join_estimators(
    estimators: dict[str, BatchEstimator | PooledEstimator], channels: dict[str, int], device: torch.device
) -> None:
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
    batch = [(name, each) for name, each in estimators.items() if isinstance(each, BatchEstimator)]
    vectors = [each.pack() if each.sums is not None else zero(1 + 2 * channels[name]) for name, each in batch]
    for (_, each), vector in zip(batch, add_up(vectors), strict=True):
        each.unpack(vector)
    pooled = [(name, each) for name, each in estimators.items() if isinstance(each, PooledEstimator)]
    nothing = lambda name: Moments(zero(()), zero(channels[name]), zero(channels[name]))  # noqa: E731
    parts = [each.moments if each.moments is not None else nothing(name) for name, each in pooled]
    for (_, other), moments in zip(pooled, join_moments(parts), strict=True):
        other.moments = moments


def relative(change: Tensor, norm: Tensor) -> Tensor:
    """``change / norm``; 0 where both are 0, nan where only the norm is."""
    undefined = torch.where(change == 0, torch.zeros_like(change), torch.full_like(change, torch.nan))
    return torch.where(norm == 0, undefined, change / torch.where(norm == 0, torch.ones_like(norm), norm))


def relative_change(before: Tensor, after: Tensor) -> float:
    """``||after - before||_2 / ||before||_2`` of one tensor; 0 if nothing changed, nan if only ``before`` is zero.

    Source: DAFT, eq. 6.

    Raises:
        ValueError: If the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f'tensors of shape {tuple(before.shape)} and {tuple(after.shape)} cannot be compared.')
    before, after = before.double().flatten(), after.double().flatten()
    return relative((after - before).norm(), before.norm()).item()
