"""Data sets, samplers and transforms; importing the package registers them."""

from mmseg_dafm.datasets.acdc import ACDCDataset
from mmseg_dafm.datasets.bdd100k import TaggedBDD100KDataset
from mmseg_dafm.datasets.camvid import CamVidDataset
from mmseg_dafm.datasets.cityscapes import TaggedCityscapesDataset
from mmseg_dafm.datasets.dark_zurich import TaggedDarkZurichDataset
from mmseg_dafm.datasets.domain_concat import DomainConcatDataset
from mmseg_dafm.datasets.domain_tagged import DomainTagged
from mmseg_dafm.datasets.epoch_index_sampler import EpochIndexSampler
from mmseg_dafm.datasets.foggy_driving import FoggyDrivingDataset
from mmseg_dafm.datasets.foggy_zurich import FoggyZurichDataset
from mmseg_dafm.datasets.gtav import GTAVDataset
from mmseg_dafm.datasets.labelmefacade import LabelMeFacadeDataset
from mmseg_dafm.datasets.mapillary import TaggedMapillaryDataset
from mmseg_dafm.datasets.nighttime_driving import TaggedNighttimeDrivingDataset
from mmseg_dafm.datasets.real_synthetic_mix import RealSyntheticMix
from mmseg_dafm.datasets.street_six import StreetSixDataset
from mmseg_dafm.datasets.synthia import SYNTHIADataset
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
