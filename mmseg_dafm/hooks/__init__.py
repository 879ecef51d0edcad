"""Hooks: importing this package registers them."""

from mmseg_dafm.hooks.bn_conversion import BNConversionHook
from mmseg_dafm.hooks.bn_mode import BNModeHook
from mmseg_dafm.hooks.checkpoint_fit import CheckpointFitHook
from mmseg_dafm.hooks.fisher_tune import FisherTuneHook

__all__ = ['BNConversionHook', 'BNModeHook', 'CheckpointFitHook', 'FisherTuneHook']
