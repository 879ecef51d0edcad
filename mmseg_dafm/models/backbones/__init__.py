"""Backbones."""

from mmseg_dafm.models.backbones.vfm_backbone import VFMBackbone
from mmseg_dafm.models.backbones.vpd_backbone import VPDBackbone

__all__ = ['VFMBackbone', 'VPDBackbone']
