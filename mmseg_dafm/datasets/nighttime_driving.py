"""Nighttime Driving: drives through Zurich by night."""

from mmseg.datasets import NightDrivingDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.domain_tagged import DomainTagged


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
