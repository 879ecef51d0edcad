"""Hooks: importing this package registers them."""

from mmseg_dafm.hooks.bn_conversion import BNConversionHook
from mmseg_dafm.hooks.bn_mode import BNModeHook

__all__ = ['BNConversionHook', 'BNModeHook']
