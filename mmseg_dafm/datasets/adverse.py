"""Sets in adverse conditions: ACDC, Dark Zurich, Foggy Driving, Foggy Zurich, Nighttime Driving."""

import os.path as osp
from collections.abc import Sequence

import mmengine.fileio as fileio
from mmseg.datasets import CityscapesDataset, DarkZurichDataset, NightDrivingDataset
from mmseg.registry import DATASETS

from mmseg_dafm.core.image_files import split_lines
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


DARK_ZURICH_SPLITS = ('val', 'test')


@DATASETS.register_module()
class TaggedDarkZurichDataset(DomainTagged, DarkZurichDataset):
    """Dark Zurich by night in the 19 classes of Cityscapes, 50 images to validate and 151 to test, 1920 x 1080.

    Layout: ``rgb_anon/<split>/night/<sequence>/*_rgb_anon.png`` and ``gt/<split>/night/<sequence>/*_gt_labelTrainIds.png``, as
    ``Dark_Zurich_val_anon.zip`` and ``Dark_Zurich_test_anon_withoutGt.zip`` unpack. The labels of ``test`` are on the server
    of the authors alone; ``tools/test.py --submission dark_zurich OUT.zip`` writes what it takes. The reference images by day
    and the unlabelled ``train`` are not taken.

    Args:
        split: ``'val'`` or ``'test'``.
        domain: name of the domain.
        test_mode: the set is only predicted; ``'test'`` demands it.
        **kwargs: ``drop_unlabelled``, ``check_ids`` and the arguments of :class:`mmseg.datasets.DarkZurichDataset`.

    Raises:
        ValueError: the split is unknown or has no labels, or a folder or labels are missing.

    Source: Sakaridis, Dai, Van Gool, "Guided Curriculum Model Adaptation and Uncertainty-Aware Evaluation for Semantic Nighttime
    Image Segmentation", ICCV 2019.
    """

    LAYOUT = 'rgb_anon/<split>/night/<sequence>/*_rgb_anon.png and gt/... likewise with *_gt_labelTrainIds.png'

    def __init__(
        self,
        split: str = 'val',
        domain: str | None = 'dark_zurich',
        test_mode: bool = False,
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        check_split(split, DARK_ZURICH_SPLITS, 'TaggedDarkZurichDataset', ('test',), test_mode)
        if not data_prefix:
            data_prefix = {'img_path': f'rgb_anon/{split}/night'}
            if split != 'test':
                data_prefix['seg_map_path'] = f'gt/{split}/night'
        super().__init__(domain=domain, test_mode=test_mode, data_prefix=data_prefix, **kwargs)


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


@DATASETS.register_module()
class TaggedNighttimeDrivingDataset(DomainTagged, NightDrivingDataset):
    """The labelled images of Nighttime Driving in the 19 classes of Cityscapes, 50 images of 1920 x 1080, labelled coarsely.

    Layout: ``leftImg8bit/test/night/*_leftImg8bit.png`` and
    ``gtCoarse_daytime_trainvaltest/test/night/*_gtCoarse_labelTrainIds.png``, as ``NighttimeDrivingTest.zip`` unpacks.

    Args:
        domain: name of the domain.
        **kwargs: ``drop_unlabelled``, ``check_ids`` and the arguments of :class:`mmseg.datasets.NightDrivingDataset`.

    Raises:
        ValueError: a folder or labels are missing.

    Source: Dai, Van Gool, "Dark Model Adaptation: Semantic Image Segmentation from Daytime to Nighttime", ITSC 2018.
    """

    LAYOUT = 'leftImg8bit/test/night/*_leftImg8bit.png and gtCoarse_daytime_trainvaltest/test/night/*_gtCoarse_labelTrainIds.png'

    def __init__(self, domain: str | None = 'nighttime_driving', **kwargs) -> None:
        prefix = {'img_path': 'leftImg8bit/test/night', 'seg_map_path': 'gtCoarse_daytime_trainvaltest/test/night'}
        kwargs.setdefault('data_prefix', prefix)
        super().__init__(domain=domain, **kwargs)
