"""Camera and painter of the toy scenes: polygons in metres, drawn far to near into four layers."""

from typing import NamedTuple

import cv2
import numpy as np

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
