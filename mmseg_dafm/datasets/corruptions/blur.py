"""Blur: Gaussian, defocus, motion and frosted glass.

Each function takes x in [0, 1] as float32 (H, W, 3) and returns the same. Source: Hendrycks and Dietterich (2019) for the
definitions and the five strengths, all in pixels whatever the image's size.
"""

import cv2
import numpy as np

from mmseg_dafm.datasets.corruptions.kernels import along_line, disk_kernel, gaussian

GAUSSIAN_BLUR = (1, 2, 3, 4, 6)
# radius of the disk, softness of its edge
DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
# half length of the line, width of the Gaussian along it
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
# Gaussian before and after, reach of a swap, rounds of swaps
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
PASSES = 16


def gaussian_blur(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Convolve with a Gaussian."""
    return gaussian(x, GAUSSIAN_BLUR[severity - 1])


def defocus_blur(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Convolve with a disk: a lens out of focus."""
    return cv2.filter2D(x, -1, disk_kernel(*DEFOCUS[severity - 1]), borderType=cv2.BORDER_REFLECT_101)


def motion_blur(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Convolve with a line in a direction between -45 and 45 degrees: a camera that moves sideways."""
    radius, sigma = MOTION[severity - 1]
    return along_line(x, radius, sigma, rng.uniform(-45, 45))


def glass_blur(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Blur, swap pixels with random neighbours, blur: frosted glass.

    Deviation: the publication swaps one pixel after the other; here, passes over the whole image swap disjoint pairs, so
    that each pixel is in two swaps per round on average, as there. See :func:`shuffled`.
    """
    sigma, reach, rounds = GLASS[severity - 1]
    before = gaussian(x, sigma)
    order = shuffled(x.shape[:2], reach, rounds, rng)
    return gaussian(before.reshape(-1, 3)[order.ravel()].reshape(x.shape), sigma)


def shuffled(shape: tuple[int, int], reach: int, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """A random permutation of pixels made of swaps between near neighbours.

    Args:
        shape: (H, W).
        reach: Largest distance of a swap in pixels, in each direction.
        rounds: Rounds of ``PASSES`` passes; a pass moves up to an eighth of the pixels, all by one offset.
        rng: Source of chance.

    Returns:
        (H, W) int32, a permutation of ``range(H * W)``: where each pixel's colour comes from.
    """
    height, width = shape
    order = np.arange(height * width, dtype=np.int32)
    for _ in range(rounds * PASSES):
        dy, dx = rng.integers(0, reach + 1), rng.integers(-reach, reach + 1)
        if dy == 0 and dx == 0:
            continue
        first = _scattered(len(order), rng)
        y, x = np.divmod(first, width)
        # Every other stripe along the offset: a pixel of these stripes has its partner outside, so no pair shares a pixel.
        along, step = (y, dy) if dy else (x, abs(dx))
        chosen = (along + rng.integers(2 * step)) // step % 2 == 0
        chosen &= (y < height - dy) & (x >= -dx) & (x < width - dx)
        first = first[chosen]
        second = first + (dy * width + dx)
        order[first], order[second] = order[second], order[first]
    return order.reshape(shape)


def _scattered(total: int, rng: np.random.Generator) -> np.ndarray:
    """Each of the numbers below ``total`` with chance 1/8, by the gaps between them, which is quicker than a draw for each."""
    gaps = rng.geometric(1 / 8, total // 8 + 8 * int(total**0.5) + 16)
    places = np.cumsum(gaps) - 1
    return places[: np.searchsorted(places, total)]
