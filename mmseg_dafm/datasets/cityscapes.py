"""Cityscapes with a domain name and with the checks of our other data sets."""

from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

from mmseg_dafm.datasets.domain_tagged import DomainTagged


@DATASETS.register_module()
class TaggedCityscapesDataset(DomainTagged, CityscapesDataset):
    """mmseg's ``CityscapesDataset`` whose images carry a domain; missing folders and wrong ids are refused early.

    The labels are the ``*_gtFine_labelTrainIds.png`` files that cityscapesscripts' ``csCreateTrainIdLabelImgs`` writes.

    Args:
        domain: name of the domain.
        **kwargs: ``check_ids``, ``drop_unlabelled`` and the arguments of :class:`mmseg.datasets.CityscapesDataset`.
    """

    LAYOUT = 'leftImg8bit/<split>/<city>/*_leftImg8bit.png and gtFine/<split>/<city>/*_gtFine_labelTrainIds.png'

    def __init__(self, domain: str | None = 'cityscapes', **kwargs) -> None:
        super().__init__(domain=domain, **kwargs)

    @property
    def remedy(self) -> str:
        """How the labels are made."""
        return 'make the labels from *_labelIds.png with python tools/dataset_converters/cityscapes.py ROOT'
