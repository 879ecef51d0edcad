"""Check data set folders: layout, number of images, readable images and labels."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mmseg_dafm.core.image_files import decoded, evenly_spread, split_lines, visible
from mmseg_dafm.doctor.checks import Check

NOTHING = MappingProxyType({})


class Layout(NamedTuple):
    """Folder layout of a data set. Placeholders: ``{split}`` for the split, ``{kind}`` for the kind of its labels.

    Attributes:
        images: folder of the images.
        files: glob pattern of the images in it.
        labels: folder of the labels, with the same subfolders.
        suffixes: endings of the file names of image and label.
        splits: required splits.
        fix: advice if the folder does not have this layout.
        size: width and height of every image; None if they differ.
        share: share of the images that must have a label.
        kinds: split -> kind of its labels; empty for other splits.
        counts: split -> number of its images, as published.
        names: file with the split's image names, one per line; None: all images in the folder.
        num_ids: number of label ids, without 255.
        unlabelled: optional splits whose labels only a benchmark's server has.
        note: text after the findings for a folder in this layout.
    """

    images: str
    files: str
    labels: str
    suffixes: tuple[str, str]
    splits: tuple[str, ...]
    fix: str
    size: tuple[int, int] | None = None
    share: float = 1.0
    kinds: Mapping[str, str] = NOTHING
    counts: Mapping[str, int] = NOTHING
    names: str | None = None
    num_ids: int = 19
    unlabelled: tuple[str, ...] = ()
    note: str = ''

    def of(self, split: str) -> 'Layout':
        """The layout of one split, with its placeholders filled in."""
        words = {'split': split, 'kind': self.kinds.get(split, '')}
        images, files, labels, names = (
            part and part.format(**words) for part in (self.images, self.files, self.labels, self.names)
        )
        suffixes = tuple(suffix.format(**words) for suffix in self.suffixes)
        return self._replace(images=images, files=files, labels=labels, names=names, suffixes=suffixes, splits=(split,))


_CONVERT = 'then: python tools/dataset_converters'
_BDD = 'unpack "10K Images" and "Segmentation" of bdd-data.berkeley.edu there, the archives of June 2021 or later'
_VISTAS = f'unpack the release there, {_CONVERT}/mapillary.py ROOT --half'
_FULL_HD = (1920, 1080)
_CONDITIONS = ('fog', 'night', 'rain', 'snow')
# The first layout whose image folder exists is used.
DATA_LAYOUTS = {
    'cityscapes': [
        Layout(
            'leftImg8bit/{split}', '*/*_leftImg8bit.png', 'gtFine/{split}', ('_leftImg8bit.png', '_gtFine_labelTrainIds.png'),
            ('train', 'val'),
            f'unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there, {_CONVERT}/cityscapes.py ROOT',
            (2048, 1024), counts={'train': 2975, 'val': 500, 'test': 1525}, unlabelled=('test',),
        )
    ],
    'acdc': [
        Layout(
            'rgb_anon/{split}', '*/*_rgb_anon.png', 'gt/{split}', ('_rgb_anon.png', '_gt_labelTrainIds.png'),
            tuple(f'{condition}/val' for condition in _CONDITIONS),
            'unpack rgb_anon_trainvaltest.zip and gt_trainval.zip there', _FULL_HD,
            counts={'fog/val': 100, 'night/val': 106, 'rain/val': 100, 'snow/val': 100}
            | {f'{condition}/test': 500 for condition in _CONDITIONS},
            unlabelled=tuple(f'{condition}/test' for condition in _CONDITIONS),
        )
    ],
    'gtav': [
        Layout(
            'images', '*.png', 'labels', ('.png', '_labelTrainIds.png'), ('train',),
            f'unpack all parts of the release there, {_CONVERT}/gtav.py ROOT',
            # a few labels of the release differ in size from their images
            share=0.99, counts={'train': 24966},
        )
    ],
    'synthia': [
        Layout(
            'RGB', '*.png', 'GT/LABELS', ('.png', '_labelTrainIds.png'), ('train',),
            f'unpack SYNTHIA-RAND-CITYSCAPES there, {_CONVERT}/synthia.py ROOT', (1280, 760), counts={'train': 9400},
        )
    ],
    'bdd100k': [
        Layout(
            'images/10k/{split}', '*.jpg', 'labels/sem_seg/masks/{split}', ('.jpg', '.png'), ('val',), _BDD, (1280, 720),
            counts={'val': 1000},
        ),
        Layout(
            'seg/images/{split}', '*.jpg', 'seg/labels/{split}', ('.jpg', '_train_id.png'), ('val',), _BDD, (1280, 720),
            counts={'val': 1000},
        ),
    ],
    'mapillary': [
        Layout(
            'half/{split}/images', '*.jpg', 'half/{split}/train_ids', ('.jpg', '.png'), ('validation',), _VISTAS,
            counts={'validation': 2000},
        ),
        Layout(
            '{split}/images', '*.jpg', '{split}/train_ids', ('.jpg', '.png'), ('validation',), _VISTAS,
            counts={'validation': 2000},
            note='; at full size only, and --targets mapillary takes half/: '
            'run python tools/dataset_converters/mapillary.py ROOT --half for it',
        ),
    ],
    'foggy_zurich': [
        Layout(
            'RGB', '*/*.png', 'gt_labelTrainIds', ('.png', '.png'), ('testv2',), 'unpack Foggy_Zurich.zip there', _FULL_HD,
            counts={'testv2': 40}, names='lists_file_names/RGB_{split}_filenames.txt',
        )
    ],
    'foggy_driving': [
        Layout(
            'leftImg8bit/{split}', '*/*_leftImg8bit.png', 'gt{kind}/{split}',
            ('_leftImg8bit.png', '_gt{kind}_labelTrainIds.png'), ('test', 'test_extra'),
            f'unpack Foggy_Driving.zip there, {_CONVERT}/cityscapes.py ROOT',
            kinds={'test': 'Fine', 'test_extra': 'Coarse'}, counts={'test': 33, 'test_extra': 68},
        )
    ],
    'dark_zurich': [
        Layout(
            'rgb_anon/{split}/night', '*/*_rgb_anon.png', 'gt/{split}/night', ('_rgb_anon.png', '_gt_labelTrainIds.png'),
            ('val',), 'unpack Dark_Zurich_val_anon.zip there', _FULL_HD, counts={'val': 50, 'test': 151}, unlabelled=('test',),
        )
    ],
    'nighttime_driving': [
        Layout(
            'leftImg8bit/{split}/night', '*_leftImg8bit.png', 'gtCoarse_daytime_trainvaltest/{split}/night',
            ('_leftImg8bit.png', '_gtCoarse_labelTrainIds.png'), ('test',), 'unpack NighttimeDrivingTest.zip there', _FULL_HD,
            counts={'test': 50},
        )
    ],
    'voc': [
        Layout(
            'JPEGImages', '*.jpg', 'SegmentationClass{kind}', ('.jpg', '.png'), ('train', 'aug', 'val'),
            "unpack VOCtrainval_11-May-2012.tar there and write SegmentationClassAug and aug.txt with mmseg's "
            'tools/dataset_converters/voc_aug.py',
            kinds={'aug': 'Aug'}, names='ImageSets/Segmentation/{split}.txt', num_ids=21,
        )
    ],
}  # fmt: skip


SAMPLES = 10


def check_data_root(name: str, root: str, required: bool = True) -> Iterator[Check]:
    """Count the images with labels in each split, and decode ten evenly spread pairs.

    Args:
        name: A key of `DATA_LAYOUTS`.
        root: The data set's folder.
        required: Whether the exit code depends on it.

    Yields:
        One check per split, and an optional one for each existing split without public labels.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in DATA_LAYOUTS:
        raise ValueError(f'--data-root {name}={root}: known data sets are {sorted(DATA_LAYOUTS)}')
    folder, layouts = Path(root).expanduser(), DATA_LAYOUTS[name]
    for split in layouts[0].splits:
        filled = [layout.of(split) for layout in layouts]
        layout = next((layout for layout in filled if (folder / layout.images).is_dir()), filled[0])
        yield _check_split(f'{name} {split} in {root}', folder, layout, root, required)
    for split in layouts[0].unlabelled:
        layout = layouts[0].of(split)
        if (folder / layout.images).is_dir():
            yield _check_unlabelled(f'{name} {split} in {root}', folder, layout, root)


def _check_split(title: str, folder: Path, layout: Layout, root: str, required: bool) -> Check:
    image_dir, label_dir = folder / layout.images, folder / layout.labels
    ending, label_ending = layout.suffixes
    images = listed_images(folder, layout)
    labels = [
        label_dir / image.relative_to(image_dir).parent / (image.name.removesuffix(ending) + label_ending) for image in images
    ]
    pairs = [(image, label) for image, label in zip(images, labels, strict=True) if label.is_file() and image.is_file()]
    some = sample(pairs)
    problem = next(filter(None, (pair_problem(*pair, layout.size, layout.num_ids) for pair in some)), None)
    complete, counted = counted_images(images, layout)
    found = f'{counted}, {len(pairs)} with labels' + (f', {len(some)} opened' if some else '')
    good = complete and len(pairs) >= layout.share * len(images) and problem is None
    needed = f'{needed_images(layout)} and as many labels *{label_ending} with ids 0-{layout.num_ids - 1} and 255'
    fix = layout.fix.replace('ROOT', root)
    return Check(title, problem or found + layout.note.replace('ROOT', root), needed, good, required, fix)


def _check_unlabelled(title: str, folder: Path, layout: Layout, root: str) -> Check:
    images = listed_images(folder, layout)
    some = sample(images)
    problem = next(filter(None, (image_problem(image, layout.size) for image in some)), None)
    complete, counted = counted_images(images, layout)
    found = problem or f'{counted}, {len(some)} opened'
    fix = f'--submission needs them all: unpack the test images of the release in {root}'
    return Check(title, found, needed_images(layout), complete and problem is None, False, fix)


def sample(items: Sequence) -> list:
    """Select up to ten items, evenly spread and with the last one: an interrupted copy damages the last files."""
    places = {*evenly_spread(len(items), SAMPLES - 1), len(items) - 1} if items else ()
    return [items[place] for place in sorted(places)]


def counted_images(images: Sequence[Path], layout: Layout) -> tuple[bool, str]:
    """Compare the number of images with the published one; return whether it is complete, and the count as text."""
    count = layout.counts.get(layout.splits[0])
    complete = len(images) == count if count else bool(images)
    return complete, f'{len(images)} images' + (f' instead of {count}' if count and not complete else '')


def needed_images(layout: Layout) -> str:
    """Describe the required location and number of a split's images."""
    where = f'{layout.names} for {layout.images}' if layout.names else f'{layout.images}/{layout.files}'
    count = layout.counts.get(layout.splits[0])
    return where + (f' ({count} images)' if count else '')


def listed_images(folder: Path, layout: Layout) -> list[Path]:
    """Paths of a split's images: all names in its list, also of missing files; without a list, the files in the folder."""
    image_dir = folder / layout.images
    if layout.names is None:
        return visible(image_dir.glob(layout.files), image_dir)
    if not (folder / layout.names).is_file():
        return []
    ending = layout.suffixes[0]
    lines = split_lines((folder / layout.names).read_bytes())
    return [image_dir / (line.removeprefix(f'{layout.images}/').removesuffix(ending) + ending) for line in lines]


def image_problem(image: Path, size: tuple[int, int] | None = None) -> str | None:
    """Describe the problem of an image (not decodable, rotated, wrong size), or return None."""
    try:
        found = decoded(image).size
    except ValueError as error:
        return str(error)
    return size_problem(image, found, size)


def size_problem(image: Path, found: tuple[int, int], size: tuple[int, int] | None) -> str | None:
    """Describe a wrong image size, or return None."""
    if size is not None and found != size:
        turned = ' (turned by 90 degrees)' if found == size[::-1] else ''
        return f'{image.name} is {found[0]} x {found[1]}, expected {size[0]} x {size[1]}{turned}'
    return None


def pair_problem(image: Path, label: Path, size: tuple[int, int] | None = None, num_ids: int = 19) -> str | None:
    """Describe the problem of an image or its label (wrong size, unknown ids, only 255), or return None."""
    try:
        found, ids = decoded(image).size, np.asarray(decoded(label))
    except ValueError as error:
        return str(error)
    if problem := size_problem(image, found, size):
        return problem
    if ids.shape != found[::-1]:
        turned = ' (turned by 90 degrees)' if ids.shape == found else ''
        return f'{label.name} has shape {ids.shape}, its image {found[::-1]}{turned}'
    values = {int(value) for value in np.unique(ids)}
    if values == {255}:
        return f'{label.name} is 255 everywhere, so none of its pixels counts'
    wrong = sorted(values - set(range(num_ids)) - {255})
    return f'{label.name} holds ids {wrong[:8]}' if wrong else None
