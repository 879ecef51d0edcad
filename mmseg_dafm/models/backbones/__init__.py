"""Backbones."""

from mmseg_dafm.models.backbones.vpd_backbone import VPDBackbone

__all__ = ['VPDBackbone']
