"""Optimizer wrappers and their constructors. Importing this package registers them."""

from mmseg_dafm.optim.childtune import ChildTuneAmpOptimWrapper, ChildTuneOptimWrapper, ChildTuneOptimWrapperConstructor
from mmseg_dafm.optim.daft_constructor import DAFTOptimWrapperConstructor
from mmseg_dafm.optim.fisher_constructor import FisherTuneOptimWrapperConstructor
from mmseg_dafm.optim.fisher_wrapper import FisherTuneAmpOptimWrapper, FisherTuneOptimWrapper
from mmseg_dafm.optim.vpd_constructor import VPDOptimWrapperConstructor

__all__ = [
    'ChildTuneAmpOptimWrapper',
    'ChildTuneOptimWrapper',
    'ChildTuneOptimWrapperConstructor',
    'DAFTOptimWrapperConstructor',
    'FisherTuneAmpOptimWrapper',
    'FisherTuneOptimWrapper',
    'FisherTuneOptimWrapperConstructor',
    'VPDOptimWrapperConstructor',
]
