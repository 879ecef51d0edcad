"""Painting label maps over images."""

from collections.abc import Sequence

import numpy as np


def paint_labels(image: np.ndarray, labels: np.ndarray, palette: Sequence[Sequence[int]], opacity: float = 0.5) -> np.ndarray:
    """Blend the palette's colour of each pixel's label over an image.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) integers; labels outside the palette, such as 255, leave the image as it is.
        palette: C colours in the image's channel order, 0-255.
        opacity: Share of the colour, 0-1.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: If the sizes differ or the opacity is out of range.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f'labels have shape {labels.shape}, the image {image.shape[:2]}')
    if not 0 <= opacity <= 1:
        raise ValueError(f'opacity must lie in [0, 1], got {opacity}')
    colours = np.asarray(palette, np.float32)
    known = (labels >= 0) & (labels < len(colours))
    blended = image.astype(np.float32)
    blended[known] = (1 - opacity) * blended[known] + opacity * colours[labels[known]]
    return blended.round().astype(np.uint8)
