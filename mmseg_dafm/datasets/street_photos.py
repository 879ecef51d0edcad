"""CamVid and LabelMeFacade, with their own classes and with six that they share."""

import os.path as osp
from collections.abc import Sequence

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.classes import SOURCE_NUM_IDS, STREET_CLASSES, STREET_PALETTE, street_label_map
from mmseg_dafm.datasets.domain_tagged import DomainTagged


class SequenceFolderDataset(DomainTagged, BaseSegDataset):
    """Images in ``img_dir/<sequence>/*.jpg``, labels in ``ann_dir/<sequence>/*.png``.

    Args:
        sequences: names of the folders to take; None takes all of them. With ``ann_file`` (a list of
            ``<sequence>/<stem>`` lines) both selections hold.
        data_prefix: the image and the label folder below ``data_root``.
        **kwargs: arguments of :class:`DomainTagged` and :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        ValueError: a folder of ``sequences`` does not exist.
    """

    LAYOUT = 'img_dir/<sequence>/*.jpg and ann_dir/<sequence>/*.png'

    def __init__(self, sequences: Sequence[str] | None = None, data_prefix: dict | None = None, **kwargs) -> None:
        if isinstance(sequences, str):
            raise TypeError(f"{type(self).__name__}: sequences must be a list of names, got the string '{sequences}'.")
        self.sequences = None if sequences is None else tuple(sequences)
        super().__init__(data_prefix=data_prefix or {'img_path': 'img_dir', 'seg_map_path': 'ann_dir'}, **kwargs)

    def select(self, data_list: list[dict]) -> list[dict]:
        """Keep the images of ``sequences``."""
        if self.sequences is None:
            return data_list
        root = self.data_prefix['img_path']
        if self.backend_args is None:
            missing = [name for name in self.sequences if not osp.isdir(osp.join(root, name))]
            if missing:
                raise ValueError(f'{type(self).__name__}: the folder {root} has no sequence {missing}; check sequences.')
        # The separator keeps 'day_1' from taking 'day_10' as well.
        prefixes = tuple(osp.join(root, name, '') for name in self.sequences)
        return [info for info in data_list if info['img_path'].startswith(prefixes)]


@DATASETS.register_module()
class CamVidDataset(SequenceFolderDataset):
    """CamVid in eleven classes: ``img_dir/<sequence>/*.jpg``, ``ann_dir/<sequence>/*.png``, 8-bit ids, 255 ignored.

    The sequences are recorded by day and at dusk, which makes a small real domain shift: train on
    ``sequences=('day_0016E5', 'day_0006R0')``, test on ``sequences=('dusk_0001TP',)``. The customary lists are taken
    as ``ann_file='splits/train.txt'``; they mix day and dusk, and ``sequences`` narrows them down.

    Args:
        **kwargs: ``sequences``, ``domain``, ``check_ids``, ``drop_unlabelled`` and the arguments of
            :class:`mmseg.datasets.BaseSegDataset`.

    Source: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", PRL 2009; labels in the eleven classes of
    Badrinarayanan et al., "SegNet", TPAMI 2017.
    """

    METAINFO = {
        'classes': (
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign symbol',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        'palette': [
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    }


def album_of(path: str) -> str:
    """The album (the recording) of an image: what its file name says before ``__``.

    >>> album_of('img_dir/boston/05june05_static_street_boston__p1010736.jpg')
    '05june05_static_street_boston'
    """
    return osp.basename(path).split('__')[0]


@DATASETS.register_module()
class LabelMeFacadeDataset(SequenceFolderDataset):
    """LabelMeFacade: ``img_dir/<folder>/<album>__<photo>.jpg``, ``ann_dir/<folder>/<same>.png``, 8-bit ids, 255 ignored.

    The folders are ``boston`` and ``misc`` (``sequences`` chooses). Photos of one album were taken on one walk and show the
    same street from near-by places, so a fair split keeps albums whole.

    Args:
        albums: albums to take, after ``sequences`` and ``ann_file``; None takes all.
        exclude_albums: albums to leave out.
        **kwargs: ``sequences``, ``domain``, ``check_ids``, ``drop_unlabelled`` and the arguments of
            :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        TypeError: ``albums`` or ``exclude_albums`` is a string.
        ValueError: a name is no album of the chosen folders.

    Source: Froehlich, Rodner, Denzler, "A fast approach for pixelwise labeling of facade images", ICPR 2010.
    """

    LAYOUT = 'img_dir/<folder>/<album>__<photo>.jpg and ann_dir/<folder>/<album>__<photo>.png'
    METAINFO = {
        'classes': ('building', 'car', 'door', 'pavement', 'road', 'sky', 'vegetation', 'window'),
        'palette': [
            [150, 75, 40],
            [0, 0, 142],
            [190, 153, 60],
            [244, 35, 232],
            [128, 64, 128],
            [70, 130, 180],
            [107, 142, 35],
            [120, 220, 230],
        ],
    }

    def __init__(self, albums: Sequence[str] | None = None, exclude_albums: Sequence[str] = (), **kwargs) -> None:
        for key, value in (('albums', albums), ('exclude_albums', exclude_albums)):
            if isinstance(value, str):
                raise TypeError(f"LabelMeFacadeDataset: {key} must be a list of names, got the string '{value}'.")
        self.albums = None if albums is None else tuple(albums)
        self.exclude_albums = tuple(exclude_albums)
        super().__init__(**kwargs)

    def select(self, data_list: list[dict]) -> list[dict]:
        """Keep the images of ``sequences``, then those of ``albums`` that are not in ``exclude_albums``."""
        data_list = super().select(data_list)
        found = {album_of(info['img_path']) for info in data_list}
        for key, names in (('albums', self.albums or ()), ('exclude_albums', self.exclude_albums)):
            if unknown := sorted(set(names) - found):
                where = f'{self.data_prefix["img_path"]} (sequences={self.sequences})'
                raise ValueError(f'LabelMeFacadeDataset: {key} names {unknown}, but {where} has the albums {sorted(found)}.')
        wanted = (found if self.albums is None else set(self.albums)) - set(self.exclude_albums)
        return [info for info in data_list if album_of(info['img_path']) in wanted]


@DATASETS.register_module()
class StreetSixDataset(SequenceFolderDataset):
    """Road, pavement, building, vegetation, sky and car, whatever set the images come from.

    Images and labels stay where they are; ids are mapped when a label is loaded (``street_classes.py`` lists the maps).
    Sets of different sources have equal meta information, so a ``ConcatDataset`` joins them.

    Args:
        source: whose ids the label files hold: ``'camvid'``, ``'labelmefacade'`` or ``'cityscapes'`` (trainIds; for
            ACDC too). For the last, give ``data_prefix``, ``img_suffix`` and ``seg_map_suffix`` as well.
        **kwargs: ``sequences``, ``domain``, ``check_ids``, ``drop_unlabelled`` and the arguments of
            :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        ValueError: ``source`` is unknown.
    """

    METAINFO = {'classes': STREET_CLASSES, 'palette': STREET_PALETTE}

    def __init__(self, source: str, lazy_init: bool = False, **kwargs) -> None:
        self.source = source
        source_map = street_label_map(source)
        super().__init__(lazy_init=True, **kwargs)
        # A narrower choice of classes (metainfo) maps the six once more.
        chosen = self.label_map or {}
        # The meta information keeps no source map: a ConcatDataset demands that it is equal in all its sets.
        self.label_map = {old: chosen.get(new, new) for old, new in source_map.items()}
        if not lazy_init:
            self.full_init()

    @property
    def num_file_ids(self) -> int:
        """Number of ids that the label files of ``source`` define."""
        return SOURCE_NUM_IDS[self.source]
