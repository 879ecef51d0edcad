"""Two estimators of a layer's target statistics (M_t, S_t) from the moments of its batches."""

import torch
from torch import Tensor

from mmseg_dafm.core.processes import add_up, world_size
from mmseg_dafm.daft.equations import unbiased_variance
from mmseg_dafm.daft.moments import Moments, merge


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
        return torch.cat([self.sums[0].view(1), self.sums[1], self.sums[2]])

    def unpack(self, vector: Tensor) -> None:
        """Take over what :meth:`pack` gave, added up over ranks."""
        channels = (vector.numel() - 1) // 2
        self.sums = [vector[0], *vector[1:].split(channels)]

    def result(self) -> tuple[Tensor, Tensor]:
        """(M_t, S_t), ``(C,)`` each, float64."""
        return self.sums[1] / self.sums[0], self.sums[2] / self.sums[0]


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


def join_estimators(estimators: dict[str, BatchEstimator | PooledEstimator], channels: dict[str, int], device) -> None:
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
    items = list(estimators.items())
    if all(isinstance(each, BatchEstimator) for each in estimators.values()):
        vectors = [each.pack() if each.sums is not None else zero(1 + 2 * channels[name]) for name, each in items]
        for (_, estimator), vector in zip(items, add_up(vectors), strict=True):
            estimator.unpack(vector)
        return
    nothing = lambda name: Moments(zero(()), zero(channels[name]), zero(channels[name]))  # noqa: E731
    parts = [each.moments if each.moments is not None else nothing(name) for name, each in items]
    for (_, estimator), moments in zip(items, join_moments(parts), strict=True):
        estimator.moments = moments
