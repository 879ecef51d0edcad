"""SYNTHIA-RAND-CITYSCAPES: street scenes of a drawn city."""

from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.domain_tagged import DomainTagged


@DATASETS.register_module()
class SYNTHIADataset(DomainTagged, CityscapesDataset):
    """SYNTHIA-RAND-CITYSCAPES in the 19 classes of Cityscapes, all 9,400 images of 1280 x 760.

    Layout: ``RGB/0000000.png`` and ``GT/LABELS/0000000_labelTrainIds.png``. The release has ``GT/LABELS/0000000.png``, 16-bit
    images with SYNTHIA's id in the first channel and the instance in the second; ``python tools/dataset_converters/synthia.py
    ROOT`` writes the others beside them.

    Three of the classes never occur: terrain, truck and train. A network trained on SYNTHIA alone scores 0 there, and papers
    that report "16 classes" leave these columns out of the mean.

    Args:
        domain: name of the domain.
        **kwargs: ``drop_unlabelled``, ``check_ids`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`.

    Raises:
        ValueError: a folder or labels are missing.

    Source: Ros et al., "The SYNTHIA Dataset", CVPR 2016.
    """

    LAYOUT = 'RGB/*.png and GT/LABELS/*_labelTrainIds.png'

    def __init__(self, domain: str | None = 'synthia', **kwargs) -> None:
        kwargs.setdefault('img_suffix', '.png')
        kwargs.setdefault('seg_map_suffix', '_labelTrainIds.png')
        kwargs.setdefault('data_prefix', {'img_path': 'RGB', 'seg_map_path': 'GT/LABELS'})
        super().__init__(domain=domain, **kwargs)

    @property
    def remedy(self) -> str:
        """How the labels are made."""
        return 'make the labels with python tools/dataset_converters/synthia.py ROOT'
