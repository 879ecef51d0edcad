"""Blur kernels, and the blur along a line that motion, falling snow and frost share."""

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
