"""Where the images and labels of each data set lie, and how many there must be: what the doctor looks for."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

NOTHING = MappingProxyType({})


class Layout(NamedTuple):
    """Where a data set's images and labels lie; ``{split}`` stands for a split and ``{kind}`` for the kind of its labels.

    Attributes:
        images: folder of the images.
        files: pattern of the images in it.
        labels: folder of the labels, with the same folders inside.
        suffixes: what ends an image's name, and its label's.
        splits: the splits that are needed.
        fix: what to do where it is not so.
        size: width and height of every image; None where they differ.
        share: share of the images that must have a label.
        kinds: split -> kind of its labels, empty for splits that are not named.
        counts: split -> number of its images, as published.
        names: file with the names of the split's images, a line each; None if they are all in the folder.
        num_ids: number of ids, besides 255.
        unlabelled: splits that only a benchmark's server has the labels of; nobody must have them.
        note: what else there is to say of a folder in this layout.
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
        """The layout of one split, its placeholders filled in."""
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
# The first layout whose images are there counts.
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
            # a few of the release's labels are not of their image's size
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
