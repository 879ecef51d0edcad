"""The same street in fog, by night, in rain and under snow."""

import cv2
import numpy as np

from mmseg_dafm.datasets.street_classes import BUILDING, CAR, PAVEMENT, ROAD, SKY, VEGETATION
from mmseg_dafm.datasets.toydrive.scene import Scene

CONDITIONS = ('clear', 'fog', 'night', 'rain', 'snow')


def haze(image: np.ndarray, depth: np.ndarray, extinction: float, colour) -> np.ndarray:
    """Koschmieder's law ``I = J t + A (1 - t)`` with ``t = exp(-extinction * depth)``.

    Args:
        image: J, (H, W, 3) float32, 0 to 255.
        depth: (H, W) in metres.
        extinction: per metre.
        colour: A, the air light, BGR.
    """
    t = np.exp(-extinction * depth)[..., None]
    return image * t + np.asarray(colour, np.float32) * (1 - t)


def overcast(image: np.ndarray, label: np.ndarray, grey: float) -> np.ndarray:
    """Replace the sky by an even grey and take colour and contrast from the rest."""
    dull = 0.6 * image + 0.4 * image.mean(axis=2, keepdims=True)
    rows = np.linspace(-12, 12, image.shape[0], dtype=np.float32)[:, None, None]
    return np.where((label == SKY)[..., None], grey + rows, dull)


def fog(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Dense fog: visibility (5 % contrast) between 40 and 85 m."""
    image = haze(scene.image.astype(np.float32), scene.depth, 3.0 / rng.uniform(40, 85), (214, 212, 208))
    return cv2.GaussianBlur(image, (0, 0), 0.6)


def night(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Darkness with our own headlamps, lit windows, the lamps of other cars, and sensor noise."""
    image = scene.image.astype(np.float32)
    height, width = scene.label.shape
    dark = image * (np.array([0.19, 0.14, 0.11], np.float32) * rng.uniform(0.8, 1.2))
    sky = np.array([44, 24, 14], np.float32) * np.linspace(0.6, 1.5, height, dtype=np.float32)[:, None, None]
    dark = np.where((scene.label == SKY)[..., None], sky, dark)
    columns = (np.arange(width, dtype=np.float32) - width / 2) / (0.33 * width)
    beam = np.exp(-scene.depth / 16) * np.exp(-(columns**2))[None]
    lights = scene.lights.astype(np.float32)
    glow = cv2.GaussianBlur(lights, (0, 0), height / 32)
    lit = dark + image * beam[..., None] * np.array([0.7, 0.85, 0.95], np.float32) + 0.8 * lights + 0.9 * glow
    return lit + rng.standard_normal((height, width, 1), dtype=np.float32) * 5


def rain(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """A grey sky, a wet road that mirrors the street, thin haze and streaks."""
    height, width = scene.label.shape
    image = overcast(scene.image.astype(np.float32), scene.label, 158) * 0.72
    top = int(np.argmax((scene.label == ROAD).any(axis=1)))
    mirror = np.zeros_like(image)
    rows = np.clip(2 * top - np.arange(top, height), 0, height - 1)
    mirror[top:] = cv2.GaussianBlur(image[rows], (0, 0), sigmaX=0.8, sigmaY=3)
    wet = np.isin(scene.label, (ROAD, PAVEMENT))[..., None] * np.float32(rng.uniform(0.4, 0.55))
    image = haze(image * (1 - wet) + mirror * wet, scene.depth, 0.007, (150, 146, 142))
    streaks = np.zeros((height, width), np.uint8)
    slant, count = rng.uniform(-0.25, 0.25), height * width // 190
    x, y = rng.uniform(0, width, count), rng.uniform(-8, height, count)
    length = rng.uniform(0.04, 0.10, count) * height
    ends = np.stack([np.stack([x, y], 1), np.stack([x + slant * length, y + length], 1)], axis=1).astype(np.int32)
    cv2.polylines(streaks, list(ends), False, 80, 1, cv2.LINE_AA)
    return image + streaks[..., None]


def snow(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Snow on the ground, on trees and cars, a pale sky, thin haze and flakes."""
    height, width = scene.label.shape
    image = overcast(scene.image.astype(np.float32), scene.label, 206)
    cover = np.zeros(6, np.float32)
    cover[[ROAD, PAVEMENT, BUILDING, VEGETATION, CAR]] = 0.42, 0.9, 0.12, 0.68, 0.18
    # Patches: smooth noise decides where snow lies thicker.
    patches = cv2.resize(rng.random((height // 8, width // 8), dtype=np.float32), (width, height))
    weight = np.clip(cover[scene.label] * (0.55 + 0.9 * patches), 0, 1)[..., None]
    white = np.array([248, 242, 238], np.float32)
    # The picture's own light and shade shows through, so that shapes stay readable.
    image = image * (1 - weight) + (white * 0.8 + 0.2 * image) * weight
    image = haze(image, scene.depth, 0.012, (226, 222, 220))
    flakes = np.zeros((height, width), np.uint8)
    for radius, count in ((0, height * width // 260), (1, height * width // 1500)):
        for x, y in zip(rng.integers(0, width, count).tolist(), rng.integers(0, height, count).tolist(), strict=True):
            cv2.circle(flakes, (x, y), radius, 255, -1)
    flakes = cv2.GaussianBlur(flakes, (0, 0), 0.5).astype(np.float32)[..., None] / 255
    return image * (1 - flakes) + 255 * flakes


PAINTERS = {'fog': fog, 'night': night, 'rain': rain, 'snow': snow}


def apply_condition(scene: Scene, condition: str, rng: np.random.Generator) -> np.ndarray:
    """Show a scene under a condition; its labels stay what they are.

    Args:
        scene: the street in clear weather.
        condition: one of ``CONDITIONS``.
        rng: chance of the condition (density, streaks, flakes), independent of the layout.

    Returns:
        (H, W, 3) uint8, BGR, 0 to 255.

    Raises:
        ValueError: ``condition`` is unknown.
    """
    if condition == 'clear':
        return scene.image.copy()
    if condition not in PAINTERS:
        raise ValueError(f"condition must be one of {', '.join(CONDITIONS)}, got '{condition}'.")
    return np.clip(PAINTERS[condition](scene, rng), 0, 255).astype(np.uint8)
