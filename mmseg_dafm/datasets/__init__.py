"""Data sets, samplers and transforms; importing the package registers them."""

from mmseg_dafm.datasets.adverse import (
    ACDCDataset,
    FoggyDrivingDataset,
    FoggyZurichDataset,
    TaggedDarkZurichDataset,
    TaggedNighttimeDrivingDataset,
)
from mmseg_dafm.datasets.domain_tagged import DomainConcatDataset, DomainTagged
from mmseg_dafm.datasets.driving import (
    GTAVDataset,
    SYNTHIADataset,
    TaggedBDD100KDataset,
    TaggedCityscapesDataset,
    TaggedMapillaryDataset,
)
from mmseg_dafm.datasets.epoch_index_sampler import EpochIndexSampler
from mmseg_dafm.datasets.real_synthetic_mix import RealSyntheticMix
from mmseg_dafm.datasets.street_photos import CamVidDataset, LabelMeFacadeDataset, StreetSixDataset
from mmseg_dafm.datasets.toydrive import ToyDriveDataset
from mmseg_dafm.datasets.transforms import CheckLabels, Corrupt, DomainResize, KeepDomainImage, PackDomainInputs

__all__ = [
    'ACDCDataset',
    'CamVidDataset',
    'CheckLabels',
    'Corrupt',
    'DomainConcatDataset',
    'DomainResize',
    'DomainTagged',
    'EpochIndexSampler',
    'FoggyDrivingDataset',
    'FoggyZurichDataset',
    'GTAVDataset',
    'KeepDomainImage',
    'LabelMeFacadeDataset',
    'PackDomainInputs',
    'RealSyntheticMix',
    'SYNTHIADataset',
    'StreetSixDataset',
    'TaggedBDD100KDataset',
    'TaggedCityscapesDataset',
    'TaggedDarkZurichDataset',
    'TaggedMapillaryDataset',
    'TaggedNighttimeDrivingDataset',
    'ToyDriveDataset',
]
