"""A drawn street scene with its labels, and its weather."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mmseg_dafm.datasets.classes import BUILDING, CAR, PAVEMENT, ROAD, SKY, VEGETATION
from mmseg_dafm.datasets.toydrive.drawing import (
    SKY_DEPTH,
    SUPERSAMPLING,
    Camera,
    Canvas,
    draw_building,
    draw_car,
    draw_tree,
    shade,
)

# Nothing but hills stands beyond, in metres.
FAR = 80.0
# Grain of road, pavement, building, vegetation, sky, car, in grey levels.
GRAIN = np.array([4.0, 4.0, 3.0, 9.0, 0.8, 1.5], np.float32)


class Scene(NamedTuple):
    """A street in clear weather.

    Attributes:
        image: (H, W, 3) uint8, BGR, 0 to 255.
        label: (H, W) uint8, the six street classes; exact, nothing is ignored.
        depth: (H, W) float32 in metres; the sky is 1000 m away.
        lights: (H, W, 3) uint8, BGR, what windows and lamps emit at night.
    """

    image: np.ndarray
    label: np.ndarray
    depth: np.ndarray
    lights: np.ndarray


def draw_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint a gradient from blue to pale, with clouds, over the whole canvas."""
    height, width = canvas.label.shape
    zenith, haze = np.array([214, 148, 84]) + rng.integers(-18, 19, 3), np.array([232, 216, 196])
    t = np.clip(np.arange(height) / canvas.camera.horizon, 0, 1)[:, None] ** 0.8
    canvas.image[:] = ((1 - t) * zenith + t * haze).astype(np.uint8)[:, None]
    canvas.label[:] = SKY
    # Clouds are soft: a small mask, blurred, is enough.
    mask = np.zeros((height // 8, width // 8), np.uint8)
    for _ in range(rng.integers(2, 6)):
        x, y = rng.integers(0, mask.shape[1]), int(rng.uniform(0.05, 0.75) * canvas.camera.horizon / 8)
        for _ in range(4):
            centre = (int(x + rng.integers(-6, 7)), int(y + rng.integers(-1, 2)))
            cv2.ellipse(mask, centre, (int(rng.integers(3, 8)), int(rng.integers(1, 3))), 0, 0, 360, 190, -1)
    mask = cv2.merge([cv2.resize(cv2.GaussianBlur(mask, (0, 0), 1.1), (width, height))] * 3)
    # J (1 - m) + 248 m, as J + m (248 - J) in 8-bit arithmetic.
    canvas.image[:] = cv2.add(canvas.image, cv2.multiply(mask, cv2.subtract(248.0, canvas.image), scale=1 / 255))


def draw_ground(canvas: Canvas, rng: np.random.Generator, road: float, pavement: float) -> None:
    """Paint the far end of the street, the verges, both pavements and the road with its marks."""
    height, width = canvas.label.shape
    horizon = round(canvas.camera.horizon)
    columns = np.linspace(-10, width + 10, 40)
    hills = horizon - (0.02 + 0.05 * rng.random(40)) * height
    outline = np.concatenate([np.stack([columns, hills], 1), [[width + 10, horizon + 2], [-10, horizon + 2]]])
    canvas.pixels(outline.round().astype(np.int32)[None], (86, 122, 92), VEGETATION, SKY_DEPTH / 3)
    for _ in range(rng.integers(2, 6)):
        x, w, h = rng.integers(0, width), width * rng.uniform(0.02, 0.05), height * rng.uniform(0.05, 0.14)
        box = np.array([[x - w, horizon + 2], [x + w, horizon + 2], [x + w, horizon - h], [x - w, horizon - h]])
        canvas.pixels(box.astype(np.int32)[None], shade((176, 168, 160), rng.uniform(0.8, 1.1)), BUILDING, SKY_DEPTH / 4)
    grass = np.array([[0, horizon], [width, horizon], [width, height], [0, height]], np.int32)
    canvas.pixels(grass[None], shade((60, 128, 84), rng.uniform(0.85, 1.1)), VEGETATION)

    def strip(left, right, colour, class_id=None, near=1.0, far=600.0) -> None:
        canvas.metres([[left, 0, near], [right, 0, near], [right, 0, far], [left, 0, far]], colour, class_id)

    edge = road + pavement
    slab, asphalt = shade((178, 184, 188), rng.uniform(0.88, 1.05)), shade((92, 90, 88), rng.uniform(0.8, 1.15))
    strip(-edge, edge, slab, PAVEMENT)
    joints = np.arange(4.0, 60.0, 2.0)
    for left, right in ((-edge, -road), (road, edge)):
        quads = [[[left, 0, z], [right, 0, z], [right, 0, z + 0.08], [left, 0, z + 0.08]] for z in joints]
        canvas.metres(quads, shade(slab, 0.82))
    strip(-road, road, asphalt, ROAD)
    for x in (-road, road):
        strip(x - 0.09, x + 0.09, (214, 216, 218), far=120.0)
    phase = rng.uniform(0, 6)
    dashes = [[[-0.08, 0, z], [0.08, 0, z], [0.08, 0, z + 3], [-0.08, 0, z + 3]] for z in np.arange(2 + phase, 100, 7)]
    canvas.metres(dashes, (232, 234, 236))
    if rng.random() < 0.35:
        z = rng.uniform(9, 22)
        bars = np.arange(-road + 0.5, road - 0.5, 1.0)
        canvas.metres([[[x, 0, z], [x + 0.55, 0, z], [x + 0.55, 0, z + 3], [x, 0, z + 3]] for x in bars], (226, 228, 230))


def place_objects(rng: np.random.Generator, road: float, pavement: float) -> list[tuple]:
    """Choose buildings, trees and cars; returns (Z, kind, arguments) in no order."""
    items = []
    for side in (-1, 1):
        z = rng.uniform(3, 9)
        wall = road + pavement + rng.uniform(0.3, 2.5)
        while z < FAR:
            length = rng.uniform(7, 14)
            if rng.random() < 0.72:
                # Ordered by the far end: a tree on the pavement stands before the wall that it is beside.
                items.append((z + length, draw_building, (side, wall, z, z + length)))
            else:
                for _ in range(2):
                    tree = z + rng.uniform(0, length)
                    items.append((tree, draw_tree, (side * (wall + rng.uniform(0.5, 6)), tree)))
            z += length + rng.uniform(0, 3)
        for z in np.arange(rng.uniform(8, 16), 70, rng.uniform(9, 18)):
            if rng.random() < 0.5:
                items.append((z, draw_tree, (side * (road + 0.65 * pavement), z)))
        for z in 5 + np.cumsum(rng.uniform(3, 24, 4)):
            if rng.random() < 0.75:
                items.append((z, draw_car, (side * 0.45 * road + rng.uniform(-0.2, 0.2), z, side > 0)))
        for z in rng.uniform(9, 14) + np.arange(0, 40, 6.5):
            if rng.random() < 0.3:
                # Parked with two wheels on the kerb, as in narrow streets.
                items.append((z, draw_car, (side * (road + 0.1), z, side > 0)))
    return items


def draw_scene(rng_seed: int | Sequence[int], size: tuple[int, int] = (128, 256)) -> Scene:
    """Draw a street: sky, far hills, verges, pavements, road, buildings, trees and cars.

    Args:
        rng_seed: anything that numpy's ``default_rng`` takes; equal seeds give equal scenes.
        size: (H, W) in pixels, each at least 32.

    Returns:
        The scene in clear weather with its exact labels.

    Raises:
        ValueError: ``size`` is too small.
    """
    if len(size) != 2 or min(size) < 32:
        raise ValueError(f'size must be (H, W) with both at least 32 pixels, got {tuple(size)}.')
    rng = np.random.default_rng(rng_seed)
    height, width = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
    road, pavement = rng.uniform(3.4, 4.8), rng.uniform(1.8, 3.2)
    camera = Camera(
        focal=0.72 * width,
        centre=width * rng.uniform(0.38, 0.62),
        horizon=height * rng.uniform(0.40, 0.50),
        offset=rng.uniform(0.2, 0.55) * road,
        height=rng.uniform(1.45, 1.8),
    )
    canvas = Canvas(camera, size)
    draw_sky(canvas, rng)
    draw_ground(canvas, rng, road, pavement)
    for _, draw, arguments in sorted(place_objects(rng, road, pavement), key=lambda item: -item[0]):
        draw(canvas, rng, *arguments)
    image, label, depth, lights = canvas.finish()
    grain = rng.standard_normal(size, dtype=np.float32) * GRAIN[label]
    image = np.clip(image + grain[..., None], 0, 255).astype(np.uint8)
    return Scene(image, label, depth, lights)


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
