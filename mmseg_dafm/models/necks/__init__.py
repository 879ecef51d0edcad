"""Necks."""

from mmseg_dafm.models.necks.feature_pyramid import ScalePyramid

__all__ = ['ScalePyramid']
