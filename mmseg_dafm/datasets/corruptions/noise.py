"""Noise of the sensor: Gaussian, shot, impulse and speckle noise.

Each function takes x in [0, 1] as float32 (H, W, 3) and returns the same, not yet clipped. Source: Hendrycks and
Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (2019), for the definitions and
the five strengths.
"""

import numpy as np

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
