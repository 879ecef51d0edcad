"""Dark Zurich: the streets of Zurich by night."""

from mmseg.datasets import DarkZurichDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.checks import check_split
from mmseg_dafm.datasets.domain_tagged import DomainTagged

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
