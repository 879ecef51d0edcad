"""Backbones."""

from mmseg_dafm.models.backbones.mask_clip import MaskCLIPBackbone
from mmseg_dafm.models.backbones.timm_pyramid import TIMMPyramid
from mmseg_dafm.models.backbones.vfm_backbone import VFMBackbone
from mmseg_dafm.models.backbones.vpd_backbone import VPDBackbone

__all__ = ['MaskCLIPBackbone', 'TIMMPyramid', 'VFMBackbone', 'VPDBackbone']
