"""Label maps that images are made from, and the control images drawn of them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmseg.datasets import ADE20KDataset, CityscapesDataset
from PIL import Image

from mmseg_dafm.analysis.qualitative import colourise
from mmseg_dafm.core.image_files import visible
from mmseg_dafm.core.tool_output import track
from mmseg_dafm.datasets.checks import check_label_ids
from mmseg_dafm.datasets.classes import CLASSES, IGNORED
from mmseg_dafm.datasets.label_files import read_ids

CITYSCAPES_PATTERN = '**/*_gtFine_labelTrainIds.png'
# Largest relative difference between the shapes of a label and of its image; more than that bends what is in it.
MAX_STRETCH = 0.02


class Layout(NamedTuple):
    """One label map.

    Attributes:
        stem: what the real image and its label have in common, ``<city>_<seq>_<frame>`` in Cityscapes.
        folder: folder of the label below the labels' root, kept for the images; ``<city>`` in Cityscapes.
        path: the label map.
    """

    stem: str
    folder: str
    path: Path


def find_layouts(labels: Path, pattern: str = CITYSCAPES_PATTERN) -> list[Layout]:
    """List the label maps of a folder, sorted by their paths.

    Args:
        labels: the folder.
        pattern: which files, relative to the folder; its last part is ``*`` and the ending that is cut off to get the stem.

    Raises:
        ValueError: the pattern has another form, nothing matches it, or two labels have the same stem.
    """
    ending = pattern.rpartition('/')[2][1:]
    if not pattern.rpartition('/')[2].startswith('*') or not ending or set(ending) & set('*?['):
        raise ValueError(f"--pattern must end in '*' and the labels' ending, such as {CITYSCAPES_PATTERN!r}; got {pattern!r}.")
    if not labels.is_dir():
        raise ValueError(f'--labels {labels}: there is no such folder; give the folder of the label maps.')
    paths = visible(labels.glob(pattern), labels)
    if not paths:
        convert = visible(labels.glob('**/*_labelIds.png'), labels)
        remedy = 'run tools/dataset_converters/cityscapes.py first' if convert else 'check --labels and --pattern'
        raise ValueError(f'--labels {labels}: no file matches {pattern!r}; {remedy}.')
    layouts = [Layout(path.name.removesuffix(ending), path.parent.relative_to(labels).as_posix(), path) for path in paths]
    seen: dict[str, Path] = {}
    for layout in layouts:
        if layout.stem in seen:
            raise ValueError(
                f'--labels {labels}: {seen[layout.stem]} and {layout.path} have the same stem, by which images and labels are '
                f'paired; give the folder of one data set and split.'
            )
        seen[layout.stem] = layout.path
    return layouts


def check_shape(what: str | Path, size: Sequence[int], label: Path) -> None:
    """Refuse an image whose height and width are not in the proportion of its label.

    Args:
        what: the image or option that the message names.
        size: its height and width.
        label: the label map.

    Raises:
        ValueError: the proportions differ by more than 2 %.
    """
    with Image.open(label) as image:
        width, height = image.size
    if abs(size[1] * height / (size[0] * width) - 1) > MAX_STRETCH:
        fitting = max(8, round(size[0] * width / height / 8) * 8)
        raise ValueError(
            f'{what} is {size[0]} x {size[1]} (height x width), but the label {label} is {height} x {width}: expected the same '
            f'proportion, such as {size[0]} x {fitting}.'
        )


def check_labels(paths: Sequence[Path], size: Sequence[int], say: Callable[[str], None], threads: int = 4) -> None:
    """Read label maps before any model is loaded.

    Args:
        paths: the label maps.
        size: height and width of the images to make.
        say: takes a line of progress.
        threads: labels read at a time.

    Raises:
        ValueError: a file is no image of train ids, has no labelled pixel, or is of another proportion than ``size``.
    """

    def check(path: Path) -> None:
        try:
            check_shape('--size', size, path)
            check_label_ids([str(path)], len(CLASSES), '--labels')
            labels = read_ids(path)
        except OSError as error:
            raise ValueError(f'{path} cannot be read ({error}); restore the file.') from None
        if labels.min(initial=255) >= len(CLASSES):
            raise ValueError(f'{path} has no labelled pixel: take it out of --labels.')

    with ThreadPoolExecutor(threads) as pool:
        for _ in track(pool.map(check, paths), len(paths), 'labels checked', say):
            pass


def read_labels(path: Path, height: int, width: int) -> np.ndarray:
    """Read a label map and bring it to a size by taking nearest neighbours, (height, width) uint8."""
    return np.asarray(Image.fromarray(read_ids(path)).resize((width, height), Image.Resampling.NEAREST))


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
