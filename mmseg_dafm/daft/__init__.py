"""DAFT's batch norm conversion on torch alone.

| What | Paper | Function | File |
|---|---|---|---|
| which layers, and why not the others | alg. 1 | `select_layers` | layers.py |
| moments of a batch | eq. 3 | `batch_moments`, `unbiased_variance` | equations.py |
| target statistics from all batches | eq. 3 | `BatchEstimator` | equations.py |
| the same of all values at once | (variant) | `PooledEstimator` | equations.py |
| the same function with other statistics | eq. 4, 5 | `convert_parameters` | equations.py |
| how far weights have moved | eq. 6 | `relative_change` | equations.py |
| one pass over the target data | alg. 1 | `estimate_statistics` | estimate.py |
| estimate, write, verify | alg. 1 | `convert_bn` | convert.py |
| what was done, layer by layer | | `ConversionReport` | report.py |

The other half of the paper, integrated LP-FT with its two learning rates, is optim/daft_constructor.py.
"""

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
    relative_change,
    unbiased_variance,
)
from mmseg_dafm.daft.estimate import Estimate, estimate_statistics
from mmseg_dafm.daft.layers import Selection, is_batch_norm, select_layers
from mmseg_dafm.daft.report import ConversionReport, LayerReport

__all__ = [
    'BatchEstimator', 'ConversionReport', 'Estimate', 'LayerReport', 'Moments', 'PooledEstimator', 'Selection', 'batch_moments',
    'convert_bn', 'convert_parameters', 'estimate_statistics', 'gain_ratio', 'is_batch_norm', 'mean_shift', 'merge',
    'mix_statistics', 'relative_change', 'select_layers', 'unbiased_variance',
]  # fmt: skip
