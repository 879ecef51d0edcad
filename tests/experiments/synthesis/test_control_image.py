"""The control image: colours as in ADE20K's colour table, ignored pixels, refusals."""

import numpy as np
import pytest

from mmseg_dafm.datasets.classes import CLASSES
from mmseg_dafm.experiments.synthesis.layouts import ADE20K_NAMES, control_image

# Typed from the public colour coding table of ADE20K's 150 classes, not taken from mmseg.
COLOURS = {
    'road': (140, 140, 140), 'sidewalk': (235, 255, 7), 'building': (180, 120, 120), 'wall': (120, 120, 120),
    'fence': (255, 184, 6), 'pole': (51, 0, 255), 'traffic light': (41, 0, 255), 'traffic sign': (255, 5, 153),
    'vegetation': (4, 200, 3), 'terrain': (4, 250, 7), 'sky': (6, 230, 230), 'person': (150, 5, 61), 'rider': (150, 5, 61),
    'car': (0, 102, 200), 'truck': (255, 0, 20), 'bus': (255, 0, 245), 'train': (255, 0, 245), 'motorcycle': (163, 0, 255),
    'bicycle': (255, 245, 0),
}  # fmt: skip


def test_each_class_has_the_colour_of_its_ade20k_class():
    image = control_image(np.arange(19).reshape(1, 19))
    assert image.dtype == np.uint8
    assert {name: tuple(colour) for name, colour in zip(CLASSES, image[0].tolist(), strict=True)} == COLOURS
    assert tuple(ADE20K_NAMES) == CLASSES


def test_ignored_pixels_are_black_and_positions_are_kept():
    labels = np.array([[255, 10], [13, 255]], np.uint8)
    expected = [[[0, 0, 0], list(COLOURS['sky'])], [list(COLOURS['car']), [0, 0, 0]]]
    np.testing.assert_array_equal(control_image(labels), expected)


def test_cityscapes_palette_tells_all_classes_apart():
    image = control_image(np.arange(19).reshape(1, 19), 'cityscapes')
    assert image[0, 0].tolist() == [128, 64, 128]
    assert image[0, 18].tolist() == [119, 11, 32]
    assert len(np.unique(image[0], axis=0)) == 19


def test_refusals():
    with pytest.raises(ValueError, match=r"--palette must be one of .*got 'coco'"):
        control_image(np.zeros((2, 2), int), 'coco')
    with pytest.raises(ValueError, match=r'labels hold the ids \[19, 33\], expected train ids 0 to 18 or 255'):
        control_image(np.array([[33, 19, 255, 0]]))
    with pytest.raises(ValueError, match=r'labels must be \(H, W\), got the shape \(2, 2, 3\)'):
        control_image(np.zeros((2, 2, 3), int))
