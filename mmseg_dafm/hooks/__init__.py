"""Hooks. Importing this package registers them."""

from mmseg_dafm.hooks.bn_conversion import BNConversionHook
from mmseg_dafm.hooks.bn_mode import BNModeHook
from mmseg_dafm.hooks.checkpoint_fit import CheckpointFitHook
from mmseg_dafm.hooks.exact_resume import ExactResumeHook
from mmseg_dafm.hooks.finite_loss import FiniteLossHook
from mmseg_dafm.hooks.fisher_tune import FisherTuneHook
from mmseg_dafm.hooks.known_domains import KnownDomainsHook

__all__ = [
    'BNConversionHook',
    'BNModeHook',
    'CheckpointFitHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'FisherTuneHook',
    'KnownDomainsHook',
]
