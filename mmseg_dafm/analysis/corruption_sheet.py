"""One picture of an image under every corruption at every severity."""

import os

import cv2
import numpy as np
from matplotlib.figure import Figure

from mmseg_dafm.core.files import replacing
from mmseg_dafm.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupt


def draw_corruptions(image: np.ndarray, path: str | os.PathLike, seed: int = 0) -> None:
    """Draw a sheet of sixteen rows, one per corruption, with the clean image and the five severities beside each other.

    Args:
        image: (H, W, 3) uint8 BGR.
        path: The picture to write, whole or not at all.
        seed: Seed of each corruption.

    Raises:
        ValueError: The image is of another shape or type.
    """
    height, width = image.shape[:2]
    cell = 2.6
    columns = ['clean', *(f'severity {severity}' for severity in SEVERITIES)]
    size = (cell * len(columns) + 0.5, (cell * height / width + 0.06) * len(CORRUPTIONS) + 0.4)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(len(CORRUPTIONS), len(columns), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for name, line in zip(CORRUPTIONS, axes, strict=True):
        pictures = [image, *(corrupt(image, name, severity, np.random.default_rng(seed)) for severity in SEVERITIES)]
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=9)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
