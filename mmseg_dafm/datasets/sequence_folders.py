"""Data sets whose images lie in one folder per sequence (or town)."""

import os.path as osp
from collections.abc import Sequence

from mmseg.datasets import BaseSegDataset

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
