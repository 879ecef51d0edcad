"""Two estimators of a layer's target statistics (M_t, S_t) from the moments of its batches."""

import torch
from torch import Tensor

from mmseg_dafm.bn.equations import unbiased_variance
from mmseg_dafm.bn.moments import Moments, merge


class BatchEstimator:
    """Equation 3: the mean over batches of the batch mean, and of the unbiased batch variance.

        M_t = E_B[mu],    S_t = E_B[m / (m - 1) sigma^2]

    This is what the running statistics of training converge to, if the batches have the size that one normalisation
    group has in training. It leaves out the variance *between* batches: with one image per batch a fifth or more of the
    pooled variance. Batches of unequal size weigh by their number of values.

    Deviation: the paper's expectation weighs a smaller last batch like a full one; by count it does no harm. For equal
    batches the two agree.

    Source: DAFT, equation 3.
    """

    def __init__(self) -> None:
        self.sums: list[Tensor] | None = None
        self.batches = 0

    def add(self, moments: Moments) -> None:
        """Count one batch in.

        Raises:
            ValueError: If the batch has one value per channel, which has no variance.
        """
        if moments.count < 2:
            raise ValueError(
                "sees one value per channel in a batch, which has no variance: use more images per batch, or estimator='pooled'"
            )
        self.batches += 1
        variance = unbiased_variance(moments.m2, moments.count)
        new = [moments.count, moments.count * moments.mean, moments.count * variance]
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
