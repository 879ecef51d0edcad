"""Data sets, samplers and transforms; importing the package registers them."""

from mmseg_dafm.datasets.camvid import CamVidDataset
from mmseg_dafm.datasets.domain_tagged import DomainTagged
from mmseg_dafm.datasets.street_six import StreetSixDataset
from mmseg_dafm.datasets.toydrive import ToyDriveDataset
from mmseg_dafm.datasets.transforms import KeepDomainImage, PackDomainInputs

__all__ = [
    'CamVidDataset',
    'DomainTagged',
    'KeepDomainImage',
    'PackDomainInputs',
    'StreetSixDataset',
    'ToyDriveDataset',
]
