"""Batch norm conversion of DAFT, on torch alone."""

from mmseg_dafm.daft.convert import convert_bn
from mmseg_dafm.daft.equations import (
    BatchEstimator,
    Moments,
    PooledEstimator,
    batch_moments,
    convert_parameters,
    gain_ratio,
    mean_shift,
    merge,
    mix_statistics,
    unbiased_variance,
)
from mmseg_dafm.daft.estimate import Estimate, estimate_statistics
from mmseg_dafm.daft.layers import Selection, is_batch_norm, select_layers
from mmseg_dafm.daft.report import ConversionReport, LayerReport

__all__ = [
    'BatchEstimator', 'ConversionReport', 'Estimate', 'LayerReport', 'Moments', 'PooledEstimator', 'Selection', 'batch_moments',
    'convert_bn', 'convert_parameters', 'estimate_statistics', 'gain_ratio', 'is_batch_norm', 'mean_shift', 'merge',
    'mix_statistics', 'select_layers', 'unbiased_variance',
]  # fmt: skip
