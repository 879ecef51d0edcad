"""Foggy Zurich: the streets of Zurich in fog."""

import os.path as osp

import mmengine.fileio as fileio
from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

from mmseg_dafm.core.image_files import split_lines
from mmseg_dafm.datasets.checks import check_split
from mmseg_dafm.datasets.domain_tagged import DomainTagged

FOGGY_ZURICH_SPLITS = ('testv1', 'testv2', 'light', 'medium')
UNLABELLED = ('light', 'medium')


@DATASETS.register_module()
class FoggyZurichDataset(DomainTagged, CityscapesDataset):
    """Foggy Zurich in the 19 classes of Cityscapes, 3,808 images of 1920 x 1080, 40 of them labelled.

    Layout: ``RGB/<sequence>/*.png``, ``gt_labelTrainIds/<sequence>/*.png`` and the lists of splits,
    ``lists_file_names/RGB_<split>_filenames.txt``, whose lines are ``RGB/<sequence>/<image>.png``, as released. ``testv2`` has
    all 40 labelled images, ``testv1`` the 16 of the first publication; ``light`` (1,556) and ``medium`` (1,498) are named by the
    density of their fog, and have no labels and no image that resembles one of the test.

    Args:
        split: ``'testv2'``, ``'testv1'``, ``'light'`` or ``'medium'``.
        domain: name of the domain.
        test_mode: the set is only predicted; splits without labels demand it.
        **kwargs: ``drop_unlabelled``, ``check_ids`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`.

    Raises:
        ValueError: the split is unknown or has no labels, or its list, a folder, an image of the list or labels are missing.

    Source: Sakaridis, Dai, Hecker, Van Gool, "Model Adaptation with Synthetic and Real Data for Semantic Dense Foggy Scene
    Understanding", ECCV 2018 (``testv1``); Dai et al., "Curriculum Model Adaptation with Synthetic and Real Data", IJCV 2020.
    """

    LAYOUT = 'RGB/<sequence>/*.png, gt_labelTrainIds/<sequence>/*.png and lists_file_names/RGB_<split>_filenames.txt'

    def __init__(
        self,
        split: str = 'testv2',
        domain: str | None = 'foggy_zurich',
        data_root: str | None = None,
        test_mode: bool = False,
        **kwargs,
    ) -> None:
        check_split(split, FOGGY_ZURICH_SPLITS, 'FoggyZurichDataset', UNLABELLED, test_mode)
        self.list_file = osp.join(data_root or '', f'lists_file_names/RGB_{split}_filenames.txt')
        labels = {} if split in UNLABELLED else {'seg_map_path': 'gt_labelTrainIds'}
        kwargs.setdefault('data_prefix', {'img_path': 'RGB', **labels})
        kwargs.setdefault('img_suffix', '.png')
        kwargs.setdefault('seg_map_suffix', '.png')
        super().__init__(domain=domain, data_root=data_root, test_mode=test_mode, **kwargs)

    def select(self, data_list: list[dict]) -> list[dict]:
        """Keep the images of the split's list, in its order.

        Raises:
            ValueError: the list or one of its images is missing.
        """
        if not fileio.exists(self.list_file, backend_args=self.backend_args):
            raise ValueError(
                f'FoggyZurichDataset: the list of images {self.list_file} does not exist (expected layout: {self.LAYOUT}); '
                'unpack lists_file_names of the release there.'
            )
        lines = split_lines(fileio.get(self.list_file, backend_args=self.backend_args))
        root = self.data_prefix['img_path']
        found = {info['img_path']: info for info in data_list}
        wanted = [osp.join(root, line.removeprefix('RGB/')) for line in lines]
        missing = [path for path in wanted if path not in found]
        if missing:
            raise ValueError(
                f'FoggyZurichDataset: {len(missing)} of the {len(wanted)} images in {self.list_file} do not exist, the first is '
                f'{missing[0]}; complete the images in {root}.'
            )
        return [found[path] for path in wanted]
