"""GTAV (Playing for Data): street scenes of a computer game."""

from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.domain_tagged import DomainTagged


@DATASETS.register_module()
class GTAVDataset(DomainTagged, CityscapesDataset):
    """GTAV in the 19 classes of Cityscapes, all 24,966 images of about 1914 x 1052.

    Layout: ``images/00001.png`` and ``labels/00001_labelTrainIds.png``. The release has ``labels/00001.png`` with Cityscapes'
    label ids; ``python tools/dataset_converters/gtav.py ROOT`` writes the others beside them. It leaves out the few labels
    whose size is not that of their image, which ``drop_unlabelled=True`` then leaves out of the set.

    Args:
        domain: name of the domain.
        **kwargs: ``drop_unlabelled``, ``check_ids`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`.

    Raises:
        ValueError: a folder or labels are missing.

    Source: Richter, Vineet, Roth, Koltun, "Playing for Data", ECCV 2016.
    """

    LAYOUT = 'images/*.png and labels/*_labelTrainIds.png'

    def __init__(
        self,
        domain: str | None = 'gtav',
        img_suffix: str = '.png',
        seg_map_suffix: str = '_labelTrainIds.png',
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(
            domain=domain,
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            data_prefix=data_prefix or {'img_path': 'images', 'seg_map_path': 'labels'},
            **kwargs,
        )

    @property
    def remedy(self) -> str:
        """How the labels are made."""
        return 'make the labels with python tools/dataset_converters/gtav.py ROOT'
