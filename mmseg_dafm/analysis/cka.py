"""Linear CKA of two sets of features, from a stream of batches."""

import math

import torch
from torch import Tensor


class LinearCKA:
    r"""Linear centred kernel alignment, exact after any split of the rows into batches.

    With the unbiased estimator of HSIC over the kernels ``K = X X^T`` and ``L = Y Y^T``,

        CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)).

    The plain estimator ``||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F)`` of centred features tends to 1 when there are fewer images
    than channels, whatever the features; the unbiased one does not. It may come out slightly negative for unrelated
    features. CKA does not change when features are rotated or scaled as a whole, cosine and L2 do: it complements them.

    Rows wait in a buffer until there are as many as channels and are then folded into ``(C, C)`` sums, so that memory is
    bounded by about ``5 C^2`` float64 numbers, however many images there are.

    Source: Kornblith et al., Similarity of neural network representations revisited, 2019; unbiased HSIC: Song et al., Feature
    selection via dependence maximization, 2012, eq. 4.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shift: tuple[Tensor, Tensor] | None = None
        self._rows: list[tuple[Tensor, Tensor]] = []
        self._waiting = 0
        self._sums: dict[str, Tensor] | None = None

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add rows, one per image.

        Args:
            x: ``(B, C)``, features of the reference.
            y: ``(B, D)``, features of the same images in the other network.

        Raises:
            ValueError: If the numbers of rows differ, or the numbers of channels changed.
        """
        if x.dim() != 2 or y.dim() != 2 or len(x) != len(y):
            raise ValueError(f'CKA needs features (B, C) and (B, D) of the same images, got {tuple(x.shape)}, {tuple(y.shape)}.')
        x, y = x.detach().double(), y.detach().double()
        if self._shift is None:
            # HSIC does not depend on it; sums of squares lose fewer digits near the mean
            self._shift = x.mean(0), y.mean(0)
        widths = tuple(len(part) for part in self._shift)
        if (x.shape[1], y.shape[1]) != widths:
            raise ValueError(f'CKA began with {widths} channels and now gets {(x.shape[1], y.shape[1])}.')
        self._rows.append((x - self._shift[0], y - self._shift[1]))
        self.count += len(x)
        self._waiting += len(x)
        if self._waiting >= max(widths):
            self._sums = self._folded()
            self._rows, self._waiting = [], 0

    def _folded(self) -> dict[str, Tensor] | None:
        """The sums with the waiting rows in them."""
        if not self._rows:
            return self._sums
        x, y = (torch.cat(parts) for parts in zip(*self._rows, strict=True))
        new = row_sums(x, y)
        return new if self._sums is None else {name: self._sums[name] + value for name, value in new.items()}

    def value(self) -> float:
        """CKA, at most 1; nan with fewer than four rows, or if the features of one side do not vary."""
        sums, n = self._folded(), self.count
        if sums is None or n < 4:
            return math.nan
        xy, xx, yy = (unbiased_hsic(sums, pair, n) for pair in ('xy', 'xx', 'yy'))
        return min(1.0, xy / math.sqrt(xx * yy)) if xx > 0 and yy > 0 else math.nan


def row_sums(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Sums over rows from which :func:`unbiased_hsic` follows; those of disjoint sets of rows add up.

    Args:
        x: ``(n, C)``.
        y: ``(n, D)``.

    Returns:
        Sums of ``x`` and ``y``, of the products ``x^T y``, ``x^T x``, ``y^T y``, and, with ``k = |x|^2`` and ``l = |y|^2`` per
        row, of ``k``, ``l``, ``k l``, ``k^2``, ``l^2``, ``x l``, ``y k``, ``x k``, ``y l``.
    """
    k, l = x.square().sum(1), y.square().sum(1)  # noqa: E741
    return {
        'x': x.sum(0), 'y': y.sum(0), 'x.y': x.T @ y, 'x.x': x.T @ x, 'y.y': y.T @ y,
        'k': k.sum(), 'l': l.sum(), 'kl': (k * l).sum(), 'kk': k.square().sum(), 'll': l.square().sum(),
        'xl': l @ x, 'yk': k @ y, 'xk': k @ x, 'yl': l @ y,
    }  # fmt: skip


def unbiased_hsic(sums: dict[str, Tensor], pair: str, n: int) -> float:
    r"""Unbiased HSIC of linear kernels from sums over rows.

        HSIC = (tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 / (n-2) 1'K L1) / (n (n-3)),

    where the diagonals of ``K`` and ``L`` are set to zero.

    Args:
        sums: Of :func:`row_sums`.
        pair: ``'xy'``, ``'xx'`` or ``'yy'``.
        n: Number of rows, 4 or more.
    """
    a, b = pair
    norm = {'x': 'k', 'y': 'l'}
    product, mixed = sums[f'{a}.{b}'], sums[''.join(sorted((norm[a], norm[b])))]
    trace = product.square().sum() - mixed
    ones_k = sums[a].square().sum() - sums[norm[a]]
    ones_l = sums[b].square().sum() - sums[norm[b]]
    cross = sums[a] @ product @ sums[b] - sums[a] @ sums[a + norm[b]] - sums[b] @ sums[b + norm[a]] + mixed
    return ((trace + ones_k * ones_l / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3))).item()
