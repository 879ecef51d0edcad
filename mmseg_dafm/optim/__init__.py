"""Optimizer wrapper constructors: importing this package registers them."""

from mmseg_dafm.optim.vpd_constructor import VPDOptimWrapperConstructor

__all__ = ['VPDOptimWrapperConstructor']
