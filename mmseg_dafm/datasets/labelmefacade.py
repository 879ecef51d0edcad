"""LabelMeFacade: street photos of Boston and other cities, in eight classes, selectable by album."""

import os.path as osp
from collections.abc import Sequence

from mmseg.registry import DATASETS

from mmseg_dafm.datasets.sequence_folders import SequenceFolderDataset


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
