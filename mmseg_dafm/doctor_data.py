"""Checks of data sets in 19 classes: every image has its label, and ten pairs are opened."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmseg_dafm.doctor_checks import Check

SAMPLES = 10


class Layout(NamedTuple):
    """Where a data set's images and labels lie; ``{split}`` stands for a split.

    Attributes:
        images: folder of the images.
        files: pattern of the images in it.
        labels: folder of the labels, with the same folders inside.
        suffixes: what ends an image's name, and its label's.
        splits: the splits that are needed.
        fix: what to do where it is not so.
        size: width and height of every image; None where they differ.
        share: share of the images that must have a label.
    """

    images: str
    files: str
    labels: str
    suffixes: tuple[str, str]
    splits: tuple[str, ...]
    fix: str
    size: tuple[int, int] | None = None
    share: float = 1.0


_BDD = 'unpack "10K Images" and "Segmentation" of bdd-data.berkeley.edu there, the archives of June 2021 or later'
_VISTAS = 'unpack the release there, then: python tools/dataset_converters/mapillary.py ROOT --half'
# The first layout whose images are there counts.
DATA_LAYOUTS = {
    'cityscapes': [
        Layout(
            'leftImg8bit/{split}', '*/*_leftImg8bit.png', 'gtFine/{split}', ('_leftImg8bit.png', '_gtFine_labelTrainIds.png'),
            ('train', 'val'), 'unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there and write the '
            "*_labelTrainIds.png with cityscapesscripts' createTrainIdLabelImgs.py",
        )
    ],
    'acdc': [
        Layout(
            'rgb_anon', '*/{split}/*/*_rgb_anon.png', 'gt', ('_rgb_anon.png', '_gt_labelTrainIds.png'), ('val',),
            'unpack rgb_anon_trainvaltest.zip and gt_trainval.zip there',
        )
    ],
    'gtav': [
        Layout(
            'images', '*.png', 'labels', ('.png', '_labelTrainIds.png'), ('train',),
            'unpack all parts of the release there, then: python tools/dataset_converters/gtav.py ROOT',
            # a few of the release's labels are not of their image's size
            share=0.99,
        )
    ],
    'bdd100k': [
        Layout('images/10k/{split}', '*.jpg', 'labels/sem_seg/masks/{split}', ('.jpg', '.png'), ('val',), _BDD, (1280, 720)),
        Layout('seg/images/{split}', '*.jpg', 'seg/labels/{split}', ('.jpg', '_train_id.png'), ('val',), _BDD, (1280, 720)),
    ],
    'mapillary': [
        Layout('half/{split}/images', '*.jpg', 'half/{split}/train_ids', ('.jpg', '.png'), ('validation',), _VISTAS),
        Layout('{split}/images', '*.jpg', '{split}/train_ids', ('.jpg', '.png'), ('validation',), _VISTAS),
    ],
}  # fmt: skip


def check_data_root(name: str, root: str, required: bool = True) -> Iterator[Check]:
    """Count images with labels in each split and decode ten pairs, spread over it.

    Args:
        name: A key of `DATA_LAYOUTS`.
        root: The data set's folder.
        required: Whether the exit code depends on it.

    Yields:
        One check per split.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in DATA_LAYOUTS:
        raise ValueError(f'--data-root {name}={root}: known data sets are {sorted(DATA_LAYOUTS)}')
    folder, layouts = Path(root).expanduser(), DATA_LAYOUTS[name]
    splits = layouts[0].splits
    for split in splits:
        present = [layout for layout in layouts if (folder / layout.images.format(split=split)).is_dir()]
        layout = (present or layouts)[0]
        image_dir, label_dir = (folder / part.format(split=split) for part in (layout.images, layout.labels))
        files, (ending, label_ending) = layout.files.format(split=split), layout.suffixes
        images = sorted(image_dir.glob(files))
        labels = [
            label_dir / image.relative_to(image_dir).parent / (image.name.removesuffix(ending) + label_ending) for image in images
        ]
        pairs = [(image, label) for image, label in zip(images, labels, strict=True) if label.is_file()]
        some = pairs[:: max(len(pairs) // SAMPLES, 1)][:SAMPLES]
        problem = next(filter(None, (pair_problem(*pair, layout.size) for pair in some)), None)
        found = f'{len(images)} images, {len(pairs)} with labels' + (f', {len(some)} opened' if some else '')
        good = bool(images) and len(pairs) >= layout.share * len(images) and problem is None
        needed = f'{layout.images.format(split=split)}/{files} and as many labels *{label_ending} with ids 0-18 and 255'
        yield Check(f'{name} {split} in {root}', problem or found, needed, good, required, layout.fix.replace('ROOT', root))


def pair_problem(image: Path, label: Path, size: tuple[int, int] | None = None) -> str | None:
    """What is wrong with an image and its label: not readable, turned, of different sizes, of other ids; None if nothing is."""
    try:
        with Image.open(image) as picture:
            found = picture.size
        with Image.open(label) as picture:
            ids = np.asarray(picture)
    except OSError as error:
        return f'cannot be read: {error}'
    if size is not None and found != size:
        turned = ' (turned by 90 degrees)' if found == size[::-1] else ''
        return f'{image.name} is {found[0]} x {found[1]}, expected {size[0]} x {size[1]}{turned}'
    if ids.shape != found[::-1]:
        turned = ' (turned by 90 degrees)' if ids.shape == found else ''
        return f'{label.name} has shape {ids.shape}, its image {found[::-1]}{turned}'
    wrong = sorted({int(value) for value in np.unique(ids)} - set(range(19)) - {255})
    return f'{label.name} holds ids {wrong[:8]}' if wrong else None
