"""The picture of a label map that a segmentation ControlNet is conditioned on."""

import numpy as np
from mmseg.datasets import ADE20KDataset, CityscapesDataset

from mmseg_dafm.analysis.qualitative import colourise
from mmseg_dafm.datasets.nineteen_classes import CLASSES, IGNORED

# Class of Cityscapes -> the one of ADE20K's 150 classes that stands for it. ADE20K has no rider and no train: riders look
# like persons to the ControlNet, and trains like buses. Only the prompt tells them apart.
ADE20K_NAMES = {
    'road': 'road', 'sidewalk': 'sidewalk', 'building': 'building', 'wall': 'wall', 'fence': 'fence', 'pole': 'pole',
    'traffic light': 'traffic light', 'traffic sign': 'signboard', 'vegetation': 'tree', 'terrain': 'grass', 'sky': 'sky',
    'person': 'person', 'rider': 'person', 'car': 'car', 'truck': 'truck', 'bus': 'bus', 'train': 'bus',
    'motorcycle': 'minibike', 'bicycle': 'bicycle',
}  # fmt: skip
PALETTES = ('ade20k', 'cityscapes')


def palette_colours(palette: str) -> list[list[int]]:
    """RGB colour of each of the 19 classes, in the order of ``CLASSES``.

    Args:
        palette: ``'ade20k'``, what lllyasviel's ControlNets for segmentation were trained on, or ``'cityscapes'``.

    Raises:
        ValueError: ``palette`` is unknown.
    """
    if palette not in PALETTES:
        raise ValueError(f'--palette must be one of {PALETTES}, got {palette!r}.')
    if palette == 'cityscapes':
        return CityscapesDataset.METAINFO['palette']
    names, colours = ADE20KDataset.METAINFO['classes'], ADE20KDataset.METAINFO['palette']
    return [colours[names.index(ADE20K_NAMES[name])] for name in CLASSES]


def control_image(labels: np.ndarray, palette: str = 'ade20k') -> np.ndarray:
    """Paint a label map in the colours that a ControlNet knows.

    The pipeline scales the picture to [0, 1] and nothing else, so its size must be that of the image to make, and its
    colours must be exact: resize the labels (nearest), never this picture.

    Args:
        labels: (H, W) train ids, 0 to 18, and 255 for ignored pixels, which become black. ADE20K's ControlNet never saw black
            and paints there what suits the surroundings; the label ignores these pixels in training anyway.
        palette: ``'ade20k'`` or ``'cityscapes'``.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: ``palette`` is unknown, ``labels`` is not (H, W), or an id has no colour.

    Source: the model card of lllyasviel/sd-controlnet-seg (RGB image of ADE20K's 150 colours, as mmseg has them).
    """
    colours = palette_colours(palette)
    if labels.ndim != 2:
        raise ValueError(f'labels must be (H, W), got the shape {labels.shape}.')
    wrong = np.unique(labels[(labels >= len(CLASSES)) & (labels != IGNORED)])
    if wrong.size:
        raise ValueError(
            f'labels hold the ids {wrong.tolist()}, expected train ids 0 to {len(CLASSES) - 1} or {IGNORED} (ignored).'
        )
    return colourise(labels, colours)
