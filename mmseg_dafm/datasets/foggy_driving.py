"""Foggy Driving: foggy roads, in part from the web."""

import os.path as osp
from collections.abc import Sequence

from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.checks import check_folder, check_split
from mmseg_dafm.datasets.domain_tagged import DomainTagged

# split -> kind of its labels
FOGGY_DRIVING_SPLITS = {'test': 'gtFine', 'test_extra': 'gtCoarse'}
IMAGE_SUFFIX = '_leftImg8bit.png'


@DATASETS.register_module()
class FoggyDrivingDataset(DomainTagged, CityscapesDataset):
    """Foggy Driving in the 19 classes of Cityscapes, 101 images of many sizes: 33 labelled finely, 68 coarsely.

    Layout: ``leftImg8bit/<split>/<record>/*_leftImg8bit.png``, ``gtFine/test/<record>/*_gtFine_labelTrainIds.png`` and
    ``gtCoarse/test_extra/<record>/*_gtCoarse_labelTrainIds.png``. Where the download holds ``*_labelIds.png`` alone, ``python
    tools/dataset_converters/cityscapes.py ROOT`` writes the others beside them.

    Args:
        splits: ``'test'`` (33 images), ``'test_extra'`` (68) or, as the set's own evaluation does, both.
        domain: name of the domain.
        **kwargs: ``drop_unlabelled``, ``check_ids`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`.

    Raises:
        ValueError: a split is unknown, or a folder or labels are missing.

    Source: Sakaridis, Dai, Van Gool, "Semantic Foggy Scene Understanding with Synthetic Data", IJCV 2018.
    """

    LAYOUT = 'leftImg8bit/<split>/<record>/*_leftImg8bit.png, gtFine/test/... and gtCoarse/test_extra/...*_labelTrainIds.png'

    def __init__(
        self, splits: Sequence[str] = tuple(FOGGY_DRIVING_SPLITS), domain: str | None = 'foggy_driving', **kwargs
    ) -> None:
        self.splits = (splits,) if isinstance(splits, str) else tuple(splits)
        # without a split, the message names the splits that there are
        for split in self.splits or ('',):
            check_split(split, tuple(FOGGY_DRIVING_SPLITS), 'FoggyDrivingDataset')
        kwargs.setdefault('data_prefix', {'img_path': 'leftImg8bit', 'seg_map_path': ''})
        super().__init__(domain=domain, img_suffix=IMAGE_SUFFIX, **kwargs)

    @property
    def remedy(self) -> str:
        """How the labels are made."""
        return 'make the labels from *_labelIds.png with python tools/dataset_converters/cityscapes.py ROOT'

    def select(self, data_list: list[dict]) -> list[dict]:
        """Keep the wanted splits, each with the labels of its kind."""
        root, chosen = self.data_prefix['img_path'], []
        for split in self.splits:
            folder, kind = osp.join(root, split, ''), FOGGY_DRIVING_SPLITS[split]
            if self.backend_args is None:
                check_folder(folder, self.LAYOUT, type(self).__name__)
            for info in data_list:
                if info['img_path'].startswith(folder):
                    name = osp.relpath(info['img_path'], root).removesuffix(IMAGE_SUFFIX) + f'_{kind}_labelTrainIds.png'
                    info['seg_map_path'] = osp.join(self.data_prefix['seg_map_path'], kind, name)
                    chosen.append(info)
        return chosen
