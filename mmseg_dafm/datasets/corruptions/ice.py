"""A drawn picture of frost on a pane of glass."""

import cv2
import numpy as np

from mmseg_dafm.datasets.corruptions.kernels import along_line, gaussian
from mmseg_dafm.datasets.corruptions.plasma import plasma

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
