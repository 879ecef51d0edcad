"""Picture of a batch norm conversion: how far each layer's statistics were from the target's."""

import os
from pathlib import Path

import numpy as np

from mmseg_dafm.daft.report import ConversionReport

RATIO, SHIFT = '#1f5fa8', '#b3452c'


def draw_conversion(report: ConversionReport, path: str | os.PathLike) -> None:
    """Draw, per layer, the range and median of gamma's ratio, and the mean's shift in source standard deviations.

    Args:
        report: What :func:`mmseg_dafm.daft.convert_bn` returned.
        path: PNG file to write.
    """
    # not at the top: a hook imports this module, and `import mmseg_dafm` must not load matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    layers = list(report.layers.values())
    at = np.arange(len(layers))
    column = lambda name: np.array([getattr(layer, name) for layer in layers])  # noqa: E731
    figure = Figure(figsize=(max(7, 0.16 * len(layers) + 2), 6.4), layout='constrained')
    top, bottom = figure.subplots(2, 1, sharex=True)
    low, middle, high = (np.maximum(column(f'ratio_{name}'), 1e-12) for name in ('min', 'median', 'max'))
    top.vlines(at, low, high, color=RATIO, alpha=0.35, linewidth=3)
    top.plot(at, middle, 'o', color=RATIO, markersize=4)
    top.axhline(1, color='0.4', linewidth=0.8)
    top.set_yscale('log')
    top.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    top.yaxis.set_major_formatter('{x:g}')
    top.yaxis.set_minor_formatter(NullFormatter())
    top.set_ylim(min(low.min(), 0.8), max(high.max(), 1.25))
    top.set_ylabel(r'$\gamma_t\,/\,\gamma_s$')
    top.set_title(f'Batch norm conversion: {len(layers)} layers, {sum(column("channels"))} channels; point = median, bar = range')
    # a shift of zero has no logarithm; 1e-3 sigma is as good as none
    median, largest = (np.maximum(column(f'shift_{name}'), 1e-3) for name in ('median', 'max'))
    bottom.vlines(at, median, largest, color=SHIFT, alpha=0.35, linewidth=3)
    bottom.plot(at, median, 'o', color=SHIFT, markersize=4)
    bottom.set_yscale('log')
    bottom.set_ylabel(r'$|M_t - M_s|\,/\,\sqrt{\Sigma_s + \epsilon}$')
    names = list(report.layers)
    step = max(1, len(names) // 60)
    bottom.set_xticks(at[::step], names[::step], rotation=90, fontsize=6)
    bottom.set_xlim(-1, len(layers))
    for axes in (top, bottom):
        axes.grid(axis='y', alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(Path(path), dpi=130, format='png')
