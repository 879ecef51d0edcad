"""Decode heads."""

from mmseg_dafm.models.heads.domino_fpn_head import DominoFPNHead

__all__ = ['DominoFPNHead']
