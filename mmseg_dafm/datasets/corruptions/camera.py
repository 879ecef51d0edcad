"""Corruptions by the camera: noise, blur and digital faults."""

import cv2
import numpy as np


def gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of float32 (H, W) or (H, W, C), cut off at four sigma; the border is mirrored."""
    size = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(x, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101)


def disk_kernel(radius: int, alias_sigma: float) -> np.ndarray:
    """A filled disk of the given radius in pixels, its edge softened by a Gaussian; float32, square, sum 1."""
    # Two pixels more than the disk, for its soft edge: cut off, the blur would change the brightness.
    reach = max(8, radius) + 2
    along = np.arange(-reach, reach + 1)
    disk = (along[:, None] ** 2 + along[None] ** 2 <= radius**2).astype(np.float32)
    size = 3 if radius <= 8 else 5
    soft = cv2.GaussianBlur(disk, (size, size), alias_sigma)
    return soft / soft.sum()


def line_kernel(radius: int, sigma: float, angle: float) -> np.ndarray:
    """One-sided Gaussian weights ``exp(-i^2 / (2 sigma^2))`` at ``i = 0 .. 2 radius`` pixels along a line.

    Args:
        radius: Half the length of the line in pixels.
        sigma: Width of the Gaussian in pixels.
        angle: Direction of the line in degrees, counted from the x axis towards the lower edge of the image.

    Returns:
        Float32, square with side ``4 radius + 3``, sum 1.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    centre = 2 * radius + 1
    kernel = np.zeros((2 * centre + 1, 2 * centre + 1))
    direction = np.deg2rad(angle)
    # A sample between pixels is shared among its four neighbours, so that the line has no steps.
    for position, weight in zip(steps, weights, strict=True):
        y, x = centre + position * np.sin(direction), centre + position * np.cos(direction)
        top, left = int(np.floor(y)), int(np.floor(x))
        down, right = y - top, x - left
        kernel[top : top + 2, left : left + 2] += weight * np.outer([1 - down, down], [1 - right, right])
    return (kernel / kernel.sum()).astype(np.float32)


def along_line(x: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Blur along a line (see :func:`line_kernel`); float32 (H, W) or (H, W, C), the border is mirrored."""
    kernel = line_kernel(radius, sigma, angle)
    # The half of the kernel that lies behind the pixel is empty; without empty rows and columns the filter is faster.
    rows, columns = np.flatnonzero(kernel.any(1)), np.flatnonzero(kernel.any(0))
    centre = 2 * radius + 1
    cut = kernel[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    anchor = (int(centre - columns[0]), int(centre - rows[0]))
    anchor = (min(max(anchor[0], 0), cut.shape[1] - 1), min(max(anchor[1], 0), cut.shape[0] - 1))
    return cv2.filter2D(x, -1, cut, anchor=anchor, borderType=cv2.BORDER_REFLECT_101)


GAUSSIAN_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
SHOT = (60, 25, 12, 5, 3)
IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)
SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)


def gaussian_noise(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """``x + n``, ``n ~ N(0, s^2)`` per value: the noise of a dark scene."""
    return x + np.float32(GAUSSIAN_NOISE[severity - 1]) * rng.standard_normal(x.shape, np.float32)


def shot_noise(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """``k / c``, ``k ~ Poisson(c x)`` per value: a sensor that counts c photons where the image is white."""
    photons = SHOT[severity - 1]
    return rng.poisson(x * photons).astype(np.float32) / photons


def impulse_noise(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Salt and pepper: a share of the values, each channel by itself, becomes 0 or 1 with equal chance."""
    share = IMPULSE[severity - 1]
    chance = rng.random(x.shape, np.float32)
    return np.where(chance < share, (chance < share / 2).astype(np.float32), x)


def speckle_noise(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """``x + x n``, ``n ~ N(0, s^2)`` per value: noise that grows with the light."""
    return x + x * (np.float32(SPECKLE[severity - 1]) * rng.standard_normal(x.shape, np.float32))


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


BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
# factor and offset of the saturation: 1 and 2 make the image pale, 3 to 5 make it garish
SATURATION = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))
JPEG_QUALITY = (25, 18, 15, 10, 7)


def brightness(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add c to HSV's value ``V = max(B, G, R)``, up to 1; hue and saturation stay, so every channel scales by V'/V."""
    value = x.max(2, keepdims=True)
    brighter = np.minimum(value + np.float32(BRIGHTNESS[severity - 1]), 1)
    return np.where(value > 0, x * (brighter / np.maximum(value, 1e-6)), brighter)


def contrast(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """``m + c (x - m)`` with the mean m of each channel of the image."""
    mean = x.mean((0, 1), keepdims=True, dtype=np.float64).astype(np.float32)
    return mean + np.float32(CONTRAST[severity - 1]) * (x - mean)


def saturate(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """``S' = min(a S + b, 1)`` for HSV's saturation ``S = (V - min) / V``; hue and value stay.

    A channel is ``V - (V - x) S' / S``. Grey has HSV's hue 0, red, so an offset b tints it, as in the publication.
    """
    factor, offset = SATURATION[severity - 1]
    value, low = x.max(2, keepdims=True), x.min(2, keepdims=True)
    spread = value - low
    saturation = spread / np.maximum(value, 1e-6)
    changed = np.minimum(saturation * factor + offset, 1)
    coloured = value - (value - x) * (changed / np.maximum(saturation, 1e-6))
    if not offset:
        return np.where(spread > 0, coloured, x)
    red = np.array([0, 0, 1], np.float32)
    return np.where(spread > 0, coloured, value * (red + (1 - red) * (1 - changed)))


def jpeg_compression(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Encode as JPEG of low quality (chroma at half the resolution) and decode."""
    pixels = np.rint(x * 255).astype(np.uint8)
    _, content = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY[severity - 1]])
    return cv2.imdecode(content, cv2.IMREAD_COLOR).astype(np.float32) / 255
