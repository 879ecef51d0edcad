"""Pictures of images, labels and predictions."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmseg_dafm.core.files import replacing


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


IGNORED = (0, 0, 0)


@dataclass(frozen=True)
class Row:
    """One image of the grid.

    Attributes:
        title: Words beside the row, for example the domain.
        image: RGB uint8 ``(H, W, 3)``.
        label: Class ids ``(H, W)``; ids without a colour are drawn black.
        predictions: Name of the model -> class ids ``(H, W)``.
    """

    title: str
    image: np.ndarray
    label: np.ndarray
    predictions: dict[str, np.ndarray]


def colourise(ids: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Class ids ``(H, W)`` to RGB uint8 ``(H, W, 3)``; ids outside the palette (255, ignore) become black."""
    table = np.full((256, 3), IGNORED, np.uint8)
    table[: len(palette)] = palette
    return table[np.clip(ids, 0, 255)]


def draw_grid(rows: Sequence[Row], classes: Sequence[str], palette: Sequence[Sequence[int]], path: str | os.PathLike) -> None:
    """Draw image, label and predictions side by side, one row per image, and the classes' colours below.

    Args:
        rows: What to draw; all rows have the same models.
        classes: Names of the C classes.
        palette: Their colours, RGB.
        path: The PNG to write, whole or not at all.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError('draw_grid needs at least one row.')
    models = list(rows[0].predictions)
    height, width = rows[0].image.shape[:2]
    columns = ['image', 'label', *models]
    cell = 3.2
    size = (cell * len(columns) + 0.6, cell * height / width * len(rows) + 0.8)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        pictures = [row.image, colourise(row.label, palette), *(colourise(row.predictions[m], palette) for m in models)]
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture, interpolation='nearest')
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(row.title, fontsize=11)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=11)
    patches = [Patch(color=np.array(colour) / 255, label=name) for name, colour in zip(classes, palette, strict=True)]
    figure.legend(handles=patches, loc='outside lower center', ncols=min(len(classes), 10), frameon=False, fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format='png')
