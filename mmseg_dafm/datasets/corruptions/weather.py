"""Corruptions by weather: fog, frost, snow, spatter and brightness."""

import cv2
import numpy as np

from mmseg_dafm.datasets.corruptions.camera import along_line, gaussian


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


# Mean brightness of the five photographs of the published benchmark, and their mean colour relative to it, BGR.
PANES = (0.513, 0.811, 0.811, 0.595, 0.484)
TINT = np.array([1.09, 1.02, 0.89], np.float32)
CONTRAST = 0.5
NEEDLE_DIRECTIONS = 6


def ice(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Needles of ice in several directions on patches of rime, denser towards the border of the pane.

    Args:
        shape: (H, W) of the image.
        rng: Source of chance.

    Returns:
        (H, W, 3) float32 in [0, 1], BGR; darker where the glass is clear. Each pane has the mean brightness of one of the
        published photographs.
    """
    height, width = shape
    patches = plasma(shape, 1.38, rng)
    direction = plasma(shape, 1.48, rng) * NEEDLE_DIRECTIONS
    needles = np.zeros(shape, np.float32)
    start = rng.uniform(0, 180)
    for index in range(NEEDLE_DIRECTIONS):
        seeds = (rng.random(shape, np.float32) < 0.012).astype(np.float32)
        bundle = along_line(seeds, 14, 10, start + 180 / NEEDLE_DIRECTIONS * index)
        # Each direction rules where the second field is near its number, so that neighbours grow in parallel.
        rule = np.clip(1.5 - np.abs(direction - index - 0.5), 0, 1)
        needles = np.maximum(needles, np.clip(bundle * 12, 0, 1) * rule)
    y = np.abs(np.linspace(-1, 1, height, dtype=np.float32))[:, None]
    x = np.abs(np.linspace(-1, 1, width, dtype=np.float32))[None]
    border = np.maximum(x, y) ** 2
    cover = np.clip((patches + 0.45 * border - 0.42) * 2.4, 0, 1)
    grain = gaussian(rng.random(shape, np.float32), 0.8)
    rime = cover * (0.35 + 0.4 * grain)
    crystal = np.clip(rime + cover * needles * 0.7, 0, 1)
    crystal = rng.choice(PANES) + CONTRAST * (crystal - crystal.mean())
    return np.clip(cv2.merge([crystal * tint for tint in TINT]), 0, 1).reshape(*shape, 3).astype(np.float32)


# thickness, square root of the decay of the clouds' detail
FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
# mean and deviation of the flakes' field, zoom, threshold, half length and width of their fall, share of the image
SNOW = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
# share of the image, share of the ice
FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
# mean and deviation of the liquid's field, its blur, threshold, strength (water) or blur of the edge (mud), mud or water
SPATTER = (
    (0.65, 0.3, 4, 0.69, 0.6, False),
    (0.65, 0.3, 3, 0.68, 0.6, False),
    (0.65, 0.3, 2, 0.68, 0.5, False),
    (0.65, 0.3, 1, 0.65, 1.5, True),
    (0.67, 0.4, 1, 0.65, 1.5, True),
)
# What makes drawn water as strong, in the mean over an image, as the published filters make it at severities 1 to 3.
WATER_GAIN = (0.39, 0.56, 0.71)
WATER = np.array([238, 238, 175], np.float32) / 255
MUD = np.array([20, 42, 63], np.float32) / 255


def fog(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """``(x + t p) m / (m + t)`` with clouds p, thickness t and the image's brightest value m."""
    thickness, decay = FOG[severity - 1]
    brightest = float(x.max())
    clouds = plasma(x.shape[:2], decay, rng)[..., None]
    return (x + np.float32(thickness) * clouds) * np.float32(brightest / (brightest + thickness))


def snow(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Whiten the image and add flakes that fall along a line between 45 and 135 degrees, and the same upside down."""
    mean, deviation, zoom, threshold, radius, sigma, share = SNOW[severity - 1]
    height, width = x.shape[:2]
    coarse = (int(np.ceil(height / zoom)), int(np.ceil(width / zoom)))
    field = (mean + deviation * rng.standard_normal(coarse)).astype(np.float32)
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    flakes = np.clip(np.where(field < threshold, 0, field), 0, 1)
    flakes = along_line(flakes, radius, sigma, rng.uniform(-135, -45))[..., None]
    grey = cv2.cvtColor(x, cv2.COLOR_BGR2GRAY)[..., None]
    white = share * x + (1 - share) * np.maximum(x, grey * 1.5 + 0.5)
    return white + flakes + flakes[::-1, ::-1]


def frost(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """``a x + b i`` with a picture i of ice on a pane.

    Deviation: the publication takes a random part of five photographs; here each pane is drawn in the brightness of one of
    them, see :func:`mmseg_dafm.datasets.corruptions.weather.ice`. The mean change of an image is the publication's within 10 %.
    """
    share, weight = FROST[severity - 1]
    return np.float32(share) * x + np.float32(weight) * ice(x.shape[:2], rng)


def spatter(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Drops on the lens: of water up to severity 3, of mud from 4.

    The drops lie where a blurred random field exceeds a threshold.

    Deviation: a drop of water is lit from above left by the slope of its surface, whose height is the distance from its
    rim; the publication reaches the same look by edge detection, histogram equalisation and an embossing filter. The mean
    change of an image is the publication's within 10 %, except at severity 1, where theirs depends on the image's size (0.7
    of 255 at 320x240, 0.2 at 1024x512) and ours is 0.7.
    """
    mean, deviation, blur, threshold, strength, is_mud = SPATTER[severity - 1]
    field = mean + deviation * rng.standard_normal(x.shape[:2], np.float32)
    field = gaussian(field, blur)
    if is_mud:
        cover = gaussian((field > threshold).astype(np.float32), strength)[..., None]
        cover[cover < 0.8] = 0
        return x * (1 - cover) + MUD * cover
    drops = (field > threshold).astype(np.uint8)
    height = np.minimum(cv2.distanceTransform(drops, cv2.DIST_L2, 5), 20)
    height = gaussian(height, 0.8)
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) + cv2.Sobel(height, cv2.CV_32F, 0, 1)
    light = drops * np.clip(0.35 + slope / 8, 0, 1)
    return x + np.float32(strength * WATER_GAIN[severity - 1]) * light[..., None] * WATER
