"""ACDC, the Adverse Conditions Dataset with Correspondences."""

import os.path as osp
from collections.abc import Sequence

from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.checks import check_folder, check_split
from mmseg_dafm.datasets.domain_tagged import DomainTagged

CONDITIONS = ('fog', 'night', 'rain', 'snow')
ACDC_SPLITS = ('train', 'val', 'test')


@DATASETS.register_module()
class ACDCDataset(DomainTagged, CityscapesDataset):
    """ACDC in the 19 classes of Cityscapes; the domain of an image is its condition.

    Layout: ``rgb_anon/<condition>/<split>/<sequence>/*_rgb_anon.png`` and
    ``gt/<condition>/<split>/<sequence>/*_gt_labelTrainIds.png``. The clear-weather reference images
    (``<split>_ref``) are not taken. The validation split has 406 images, 106 of them by night, 1080 x 1920.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``; the labels of ``'test'`` are not public, so it is for
            ``test_mode=True`` and a pipeline without ``LoadAnnotations``.
        conditions: which of ``'fog'``, ``'night'``, ``'rain'`` and ``'snow'`` are taken.
        domain: one name for all images instead of their conditions.
        **kwargs: ``check_ids``, ``drop_unlabelled`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`.

    Raises:
        ValueError: split or condition is unknown, a folder is missing, or the test split is used for training.

    Source: Sakaridis, Dai, Van Gool, "ACDC", ICCV 2021.
    """

    LAYOUT = 'rgb_anon/<condition>/<split>/<sequence>/*_rgb_anon.png and gt/... likewise with *_gt_labelTrainIds.png'

    def __init__(
        self,
        split: str = 'val',
        conditions: Sequence[str] = CONDITIONS,
        img_suffix: str = '_rgb_anon.png',
        seg_map_suffix: str = '_gt_labelTrainIds.png',
        data_prefix: dict | None = None,
        test_mode: bool = False,
        **kwargs,
    ) -> None:
        conditions = (conditions,) if isinstance(conditions, str) else tuple(conditions)
        unknown = [name for name in conditions if name not in CONDITIONS]
        if unknown or not conditions:
            raise ValueError(f'ACDCDataset: conditions must be among {CONDITIONS}, got {conditions}.')
        check_split(split, ACDC_SPLITS, 'ACDCDataset', ('test',), test_mode)
        self.split = split
        self.conditions = conditions
        super().__init__(
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            data_prefix=data_prefix or {'img_path': 'rgb_anon', 'seg_map_path': 'gt'},
            test_mode=test_mode,
            **kwargs,
        )

    def select(self, data_list: list[dict]) -> list[dict]:
        """Keep the wanted split and conditions, and name each image's condition."""
        root = self.data_prefix['img_path']
        chosen = []
        for condition in self.conditions:
            folder = osp.join(root, condition, self.split, '')
            if self.backend_args is None:
                check_folder(folder, self.LAYOUT, type(self).__name__)
            for info in data_list:
                if info['img_path'].startswith(folder):
                    info['domain'] = condition
                    if self.split == 'test':
                        info.pop('seg_map_path', None)
                    chosen.append(info)
        return chosen
