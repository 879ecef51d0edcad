"""Decode heads."""

from mmseg_dafm.models.heads.domino_fpn_head import DominoFPNHead
from mmseg_dafm.models.heads.hf_mask2former_head import HFMask2FormerHead
from mmseg_dafm.models.heads.unet_head import UNetHead

__all__ = ['DominoFPNHead', 'HFMask2FormerHead', 'UNetHead']
