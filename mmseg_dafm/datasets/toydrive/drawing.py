"""Draw roads, houses, trees and cars with numpy."""

from typing import NamedTuple

import cv2
import numpy as np

from mmseg_dafm.datasets.classes import BUILDING, CAR, VEGETATION

# The picture is drawn twice as large and averaged down, which smooths every edge.
SUPERSAMPLING = 2
SKY_DEPTH = 1000.0


class Camera(NamedTuple):
    """A pinhole camera above a flat ground; X to the right of the road's centre, Y up, Z ahead, in metres.

    Attributes:
        focal: focal length in drawing pixels.
        centre: column of the vanishing point in drawing pixels.
        horizon: row of the horizon in drawing pixels.
        offset: X of the camera in metres.
        height: Y of the camera in metres.
    """

    focal: float
    centre: float
    horizon: float
    offset: float
    height: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 3) in metres, with Z > 0, to integer drawing pixels (..., 2)."""
        scale = self.focal / points[..., 2]
        pixels = np.empty((*scale.shape, 2))
        pixels[..., 0] = self.centre + (points[..., 0] - self.offset) * scale
        pixels[..., 1] = self.horizon - (points[..., 1] - self.height) * scale
        return np.rint(pixels).astype(np.int32)


class Canvas:
    """Four layers of one size that are painted together, so that near things hide far ones in all of them.

    Args:
        camera: where the scene is seen from.
        size: (H, W) of the finished picture in pixels.
    """

    def __init__(self, camera: Camera, size: tuple[int, int]) -> None:
        height, width = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
        self.camera = camera
        self.size = size
        self.image = np.zeros((height, width, 3), np.uint8)
        self.label = np.zeros((height, width), np.uint8)
        self.lights = np.zeros((height, width, 3), np.uint8)
        rows = np.arange(height, dtype=np.float32) - np.float32(camera.horizon)
        ground = np.where(rows > 0, camera.focal * camera.height / np.maximum(rows, 1e-3), SKY_DEPTH)
        self.depth = np.repeat(np.minimum(ground, SKY_DEPTH).astype(np.float32)[:, None], width, axis=1)

    def pixels(self, polygons, colour, class_id=None, depth=None, light=None) -> None:
        """Fill polygons given in drawing pixels.

        Args:
            polygons: (N, K, 2) int32, N polygons that do not overlap.
            colour: BGR, 0 to 255.
            class_id: class to write; None keeps what lies there.
            depth: metres to write; None keeps what lies there.
            light: BGR that the polygons emit at night; None for nothing.
        """
        polygons = list(polygons)
        cv2.fillPoly(self.image, polygons, colour)
        # A stroke without a class lies on a thing that has hidden the lights behind it already.
        if class_id is not None or light is not None:
            cv2.fillPoly(self.lights, polygons, light or (0, 0, 0))
        if class_id is not None:
            cv2.fillPoly(self.label, polygons, class_id)
        if depth is not None:
            cv2.fillPoly(self.depth, polygons, depth)

    def metres(self, polygons, colour, class_id=None, depth=None, light=None) -> None:
        """Fill polygons (N, K, 3) or one polygon (K, 3) given in metres; the other arguments as in :meth:`pixels`."""
        points = np.asarray(polygons, dtype=np.float64)
        points = points[None] if points.ndim == 2 else points
        self.pixels(self.camera.project(points), colour, class_id, depth, light)

    def disc(self, centre, radius, colour, class_id, depth) -> None:
        """Draw a disc that faces the camera; centre (X, Y, Z) and radius in metres."""
        camera, scale = self.camera, self.camera.focal / centre[2]
        column = round(camera.centre + (centre[0] - camera.offset) * scale)
        row = round(camera.horizon - (centre[1] - camera.height) * scale)
        pixels = max(1, round(radius * scale))
        layers = ((self.image, colour), (self.lights, (0, 0, 0)), (self.label, class_id), (self.depth, depth))
        for layer, value in layers:
            cv2.circle(layer, (column, row), pixels, value, -1)

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return picture (H, W, 3), labels (H, W), depth (H, W) in metres and lights (H, W, 3) in the final size."""
        shape, step = (self.size[1], self.size[0]), SUPERSAMPLING
        return (
            cv2.resize(self.image, shape, interpolation=cv2.INTER_AREA),
            np.ascontiguousarray(self.label[::step, ::step]),
            np.ascontiguousarray(self.depth[::step, ::step]),
            cv2.resize(self.lights, shape, interpolation=cv2.INTER_AREA),
        )


# BGR
WALLS = ((96, 120, 176), (150, 178, 205), (172, 166, 158), (120, 150, 190), (138, 128, 120), (92, 104, 140))
CAR_PAINTS = ((52, 48, 190), (168, 96, 40), (210, 210, 208), (60, 60, 62), (44, 140, 196), (96, 128, 58))
GLASS = (104, 78, 52)
# Metres.
CAR_LENGTH = 4.2
# Beyond this many metres a thing is drawn with fewer strokes.
DETAIL = 32.0
WINDOW_LIGHTS = ((110, 190, 255), (150, 215, 255), (90, 160, 240))


def shade(colour, factor: float) -> tuple[int, int, int]:
    """Multiply a BGR colour by a factor of 0 or more and clip it to 255."""
    blue, green, red = colour
    return min(255, int(blue * factor)), min(255, int(green * factor)), min(255, int(red * factor))


def windows(origin, along, count: int, floors: int, pitch: float) -> np.ndarray:
    """Quads (count * floors, 4, 3) of a grid of windows, in metres.

    Args:
        origin: the lower near corner of the wall.
        along: unit vector along the wall's foot.
        count: windows per floor.
        floors: number of floors, 3 m each.
        pitch: metres from one window to the next.
    """
    columns = (np.arange(count) + 0.5) * pitch
    rows = np.arange(floors) * 3.0 + 1.9
    column, row = (grid.ravel() for grid in np.meshgrid(columns, rows))
    half_width, half_height = 0.27 * pitch, 0.75
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    foot = np.asarray(origin) + (column[:, None] + corners[:, 0] * half_width)[..., None] * np.asarray(along)
    foot[..., 1] += row[:, None] + corners[:, 1] * half_height
    return foot


def draw_building(canvas: Canvas, rng: np.random.Generator, side: int, wall: float, near: float, far: float) -> None:
    """Draw a house with the street wall at X = ``side * wall`` from Z = ``near`` to ``far`` and a wall facing us."""
    floors = int(rng.integers(2, 6))
    height, x = floors * 3.0 + 1.0, side * wall
    paint = WALLS[rng.integers(len(WALLS))]
    street, front = shade(paint, 1.08 if side > 0 else 0.82), shade(paint, 0.95)
    # The street wall runs away from us: its depth is written in slices.
    cuts = np.linspace(far, near, 4 if near < DETAIL else 2).tolist()
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        canvas.metres([[x, 0, b], [x, 0, a], [x, height, a], [x, height, b]], street, BUILDING, float((a + b) / 2))
    outer = x + side * 11.0
    canvas.metres([[x, 0, near], [outer, 0, near], [outer, height, near], [x, height, near]], front, BUILDING, near)
    if near > 2 * DETAIL:
        return
    canvas.metres(
        [
            [[x, height - 0.5, near], [x, height - 0.5, far], [x, height, far], [x, height, near]],
            [[x, height - 0.5, near], [outer, height - 0.5, near], [outer, height, near], [x, height, near]],
        ],
        shade(paint, 0.6),
    )
    count = max(1, int((far - near) / 2.8))
    street_quads = windows([x, 0, near], [0, 0, 1], count, floors, (far - near) / count)
    front_quads = windows([x, 0, near], [side, 0, 0], 4, floors, 11.0 / 4)
    quads = np.concatenate([street_quads, front_quads])
    lit = rng.random(len(quads)) < 0.4
    light = WINDOW_LIGHTS[rng.integers(len(WINDOW_LIGHTS))]
    if lit.any():
        canvas.metres(quads[lit], GLASS, light=light)
    if not lit.all():
        canvas.metres(quads[~lit], shade(GLASS, 0.85))


def draw_tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """Draw a tree whose trunk stands at (X, Z)."""
    trunk, crown = rng.uniform(1.6, 2.4), rng.uniform(1.2, 1.9)
    canvas.metres(
        [[x - 0.16, 0, z], [x + 0.16, 0, z], [x + 0.1, trunk + 0.5, z], [x - 0.1, trunk + 0.5, z]],
        (46, 66, 88),
        VEGETATION,
        z,
    )
    green = (np.array([50, 118, 62]) + rng.integers(-14, 15, 3)).tolist()
    blobs = 6 if z < DETAIL else 2
    chance = rng.uniform(size=(blobs, 3)).tolist()
    for i, (a, b, c) in enumerate(chance):
        up = (i + a) / blobs
        centre = (x + (1.6 * b - 0.8) * crown, trunk + (0.2 + 1.2 * up) * crown, z)
        canvas.disc(centre, crown * (0.5 + 0.25 * c), shade(green, 0.7 + 0.6 * up), VEGETATION, z)


def draw_car(canvas: Canvas, rng: np.random.Generator, x: float, z: float, rear: bool) -> None:
    """Draw a car whose near end is at Z = ``z``; ``rear`` says whether we see its tail or its headlamps."""
    paint = CAR_PAINTS[rng.integers(len(CAR_PAINTS))]
    back, front = (0.5, 3.0) if rear else (1.2, 3.7)
    canvas.metres(floor_quad(x, 1.05, z - 0.2, z + CAR_LENGTH), (48, 46, 46))
    # Of the two long sides we see the one that faces the camera's line of sight.
    draw_car_side(canvas, paint, x, z, back, front, -1 if x > canvas.camera.offset else 1)
    top = z + back + 0.3
    canvas.metres([upright_quad(x + d, 0.15, 0, 0.4, z) for d in (-0.68, 0.68)], (24, 24, 24), CAR, z)
    cabin = [[x - 0.88, 0.88, z + back], [x + 0.88, 0.88, z + back], [x + 0.72, 1.42, top], [x - 0.72, 1.42, top]]
    canvas.metres(cabin, shade(paint, 0.9), CAR, z)
    screen = [[x - 0.72, 0.92, z + back], [x + 0.72, 0.92, z + back], [x + 0.62, 1.34, top], [x - 0.62, 1.34, top]]
    canvas.metres(screen, shade(GLASS, 0.8))
    canvas.metres(upright_quad(x, 0.88, 0.26, 0.9, z), paint, CAR, z)
    canvas.metres(upright_quad(x, 0.3, 0.42, 0.56, z), (214, 220, 222))
    lamp, light = ((40, 40, 214), (50, 50, 255)) if rear else ((215, 240, 250), (215, 240, 255))
    canvas.metres([upright_quad(x + d, 0.14, 0.6, 0.78, z) for d in (-0.7, 0.7)], lamp, light=light)


def draw_car_side(canvas: Canvas, paint, x: float, z: float, back: float, front: float, side: int) -> None:
    """Draw the long side of a car, ``side`` = -1 for the left one; its cabin spans Z + back to Z + front."""
    s, inner, middle = x + 0.88 * side, x + 0.74 * side, z + CAR_LENGTH / 2
    far = z + CAR_LENGTH
    canvas.metres([[s, 0.3, z], [s, 0.3, far], [s, 0.88, far], [s, 0.92, z]], shade(paint, 0.72), CAR, middle)
    a, b = z + back, z + front
    cabin = [[s, 0.88, a], [s, 0.88, b], [inner, 1.42, b - 0.5], [inner, 1.42, a + 0.3]]
    canvas.metres(cabin, shade(paint, 0.62), CAR, middle)
    if z > DETAIL:
        return
    glass = [[s, 0.94, a + 0.25], [s, 0.94, b - 0.25], [inner, 1.34, b - 0.6], [inner, 1.34, a + 0.45]]
    canvas.metres(glass, shade(GLASS, 0.7))
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for radius, colour, class_id in ((0.34, (24, 24, 24), CAR), (0.17, (120, 120, 120), None)):
        rim = np.stack([np.full(12, s), 0.34 + radius * np.sin(angle), z + radius * np.cos(angle)], axis=1)
        canvas.metres([rim + [0, 0, 0.8], rim + [0, 0, 3.4]], colour, class_id, middle)


def floor_quad(x: float, half: float, near: float, far: float) -> list[list[float]]:
    """A rectangle on the ground, ``half`` metres to either side of X = ``x``."""
    return [[x - half, 0, near], [x + half, 0, near], [x + half, 0, far], [x - half, 0, far]]


def upright_quad(x: float, half: float, low: float, high: float, z: float) -> list[list[float]]:
    """A rectangle that faces the camera at Z = ``z``."""
    return [[x - half, low, z], [x + half, low, z], [x + half, high, z], [x - half, high, z]]
