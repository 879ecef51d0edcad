"""The label maps to make images for."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmseg_dafm.core.image_files import visible
from mmseg_dafm.core.progress import track
from mmseg_dafm.datasets.checks import check_label_ids
from mmseg_dafm.datasets.label_files import read_ids
from mmseg_dafm.datasets.nineteen_classes import CLASSES

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
