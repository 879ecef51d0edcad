"""Clouds: a random field with detail at every scale, for fog and frost."""

import numpy as np


def plasma(shape: tuple[int, int], decay: float, rng: np.random.Generator) -> np.ndarray:
    """Diamond-square fractal, cut to an image.

    On a torus of ``2^k`` points a side, each level puts a point in the middle of every square and then on every edge: the
    mean of its four neighbours plus ``uniform(-w, w)``. The amplitude w is divided by ``decay^2`` from level to level, as in the
    published benchmark, whose code draws ``v uniform(-v, v)`` and divides v by ``decay``.

    Args:
        shape: (H, W) of the result; the torus is the smallest that holds it.
        decay: Square root of how much weaker each finer level is; 1 is as rough as noise, 2 is smooth.
        rng: Source of chance.

    Returns:
        (H, W) float32, shifted and scaled so that the whole torus fills [0, 1].

    Source: Hendrycks and Dietterich (2019), fog.
    """
    side = 2 ** int(np.ceil(np.log2(max(*shape, 2))))
    field, amplitude = np.zeros((1, 1), np.float32), 1.0
    while len(field) < side:
        size = 2 * len(field)
        finer = np.empty((size, size), np.float32)
        corner = field
        right = np.roll(corner, -1, 1)
        middle = (corner + right + np.roll(corner, -1, 0) + np.roll(right, -1, 0)) / 4
        middle += _jitter(middle.shape, amplitude, rng)
        above, left = np.roll(middle, 1, 0), np.roll(middle, 1, 1)
        finer[::2, ::2], finer[1::2, 1::2] = corner, middle
        finer[::2, 1::2] = (corner + right + middle + above) / 4 + _jitter(middle.shape, amplitude, rng)
        finer[1::2, ::2] = (corner + np.roll(corner, -1, 0) + middle + left) / 4 + _jitter(middle.shape, amplitude, rng)
        field, amplitude = finer, amplitude / decay**2
    low, high = field.min(), field.max()
    return (field[: shape[0], : shape[1]] - low) / max(high - low, np.float32(1e-6))


def _jitter(shape: tuple[int, int], amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Float32 values uniform in [-amplitude, amplitude)."""
    return (rng.random(shape, np.float32) * 2 - 1) * np.float32(amplitude)
