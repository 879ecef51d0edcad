"""Optimizer wrapper constructors: importing this package registers them."""

from mmseg_dafm.optim.daft_constructor import DAFTOptimWrapperConstructor
from mmseg_dafm.optim.vpd_constructor import VPDOptimWrapperConstructor

__all__ = ['DAFTOptimWrapperConstructor', 'VPDOptimWrapperConstructor']
