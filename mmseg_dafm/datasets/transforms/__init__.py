"""Transforms that keep the domain of an image, scale by it, check its label, and one that corrupts it."""

from mmseg_dafm.datasets.transforms.check_labels import CheckLabels
from mmseg_dafm.datasets.transforms.corrupt import Corrupt
from mmseg_dafm.datasets.transforms.domain_inputs import DomainResize, KeepDomainImage, PackDomainInputs, domain_image

__all__ = ['CheckLabels', 'Corrupt', 'DomainResize', 'KeepDomainImage', 'PackDomainInputs', 'domain_image']
