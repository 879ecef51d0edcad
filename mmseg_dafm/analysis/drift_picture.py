"""Pictures of feature drift and weight change, after figures 1 and 2 of DAFT."""

import math
import os
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from mmseg_dafm.analysis.drift import KINDS
from mmseg_dafm.core.files import replacing

COLOURS = ('#1f5fa8', '#b3452c', '#3d8a4f', '#8a5fb0', '#b08a1f', '#4fa8a0', '#777777', '#c45a9a')
PANELS = {'pooled_cosine': 'cosine of pooled features', 'pixel_cosine': 'mean cosine of positions', 'l2': 'L2 of pooled features'}
SYMBOLS = {'conv': 'conv W', 'gamma': r'$\gamma$', 'beta': r'$\beta$', 'mean': 'M', 'variance': 'S'}


def draw_features(rows: Sequence[Mapping], path: str | os.PathLike) -> None:
    """Draw, for each layer, how the images are distributed over cosine and L2, one outline per method.

    Args:
        rows: Of :func:`mmseg_dafm.analysis.drift_run.compare`.
        path: PNG to write, whole or not at all.

    Source: DAFT, figure 1.
    """
    layers, methods = (list(dict.fromkeys(row[key] for row in rows)) for key in ('layer', 'method'))
    figure = Figure(figsize=(11, 2.6 * len(layers) + 0.6), layout='constrained')
    grid = figure.subplots(len(layers), len(PANELS), squeeze=False)
    for line, layer in zip(grid, layers, strict=True):
        for axes, (measure, title) in zip(line, PANELS.items(), strict=True):
            values = {name: _values(rows, layer, name, measure) for name in methods}
            edges = _edges(np.concatenate(list(values.values())))
            for index, (name, found) in enumerate(values.items()):
                colour = COLOURS[index % len(COLOURS)]
                axes.hist(found, edges, histtype='stepfilled', color=colour, alpha=0.18)
                axes.hist(found, edges, histtype='step', color=colour, linewidth=1.4, label=name)
                axes.axvline(np.median(found), color=colour, linewidth=1, linestyle='--')
            axes.set_xlabel(title)
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
            axes.spines[['top', 'right']].set_visible(False)
        line[0].set_ylabel(f'{layer}\nimages')
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=len(methods), frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _values(rows: Sequence[Mapping], layer: str, method: str, measure: str) -> np.ndarray:
    return np.array([row[measure] for row in rows if row['layer'] == layer and row['method'] == method])


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of 30 bins that all methods share."""
    low, high = values.min(), values.max()
    # an untouched network has one value only
    margin = max((high - low) * 0.02, 1e-3)
    return np.linspace(low - margin, high + margin, 31)


def draw_changes(changes: Mapping[str, Sequence[Mapping]], path: str | os.PathLike, converted: Collection[str] = ()) -> None:
    """Draw the relative change of every layer: weights, gamma, beta, and the statistics M and S in log scale.

    Left against the pre-trained weights, for all methods alike; right against the weights that training began with, as in
    the paper, where the step of the conversion itself is not counted.

    Args:
        changes: method -> rows of :func:`mmseg_dafm.analysis.drift.weight_changes`.
        path: PNG to write, whole or not at all.
        converted: Methods whose training began after a conversion; without any, only the left column is drawn.

    Source: DAFT, figure 2.
    """
    kinds = [kind for kind in KINDS if any(row['kind'] == kind for rows in changes.values() for row in rows)]
    columns = {'before_conversion': 'against the pre-trained weights'}
    if converted:
        columns['after_conversion'] = f'against the weights at the start of training (converted: {", ".join(sorted(converted))})'
    figure = Figure(figsize=(7.5 * len(columns), 2.1 * max(len(kinds), 1) + 1.2), layout='constrained')
    grid = figure.subplots(max(len(kinds), 1), len(columns), sharey='row', squeeze=False)
    for panels, kind in zip(grid, kinds, strict=False):
        for axes, reference in zip(panels, columns, strict=True):
            for index, (method, rows) in enumerate(changes.items()):
                members = [row for row in rows if row['kind'] == kind]
                values = [row[reference] for row in members]
                median = np.median([value for value in values if not math.isnan(value)] or [math.nan])
                colour = COLOURS[index % len(COLOURS)]
                label = f'{method} (median {median:.3g})'
                axes.plot(values, '-o', color=colour, markersize=2.5, linewidth=1, label=label)
                _mark_stages(axes, [row['layer'] for row in members])
            if kind in ('mean', 'variance') and any(value > 0 for line in axes.lines for value in line.get_ydata()):
                axes.set_yscale('log')
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter('{x:g}')
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.legend(fontsize=7, frameon=False, loc='upper left', bbox_to_anchor=(1, 1))
            axes.grid(axis='y', alpha=0.25)
            axes.spines[['top', 'right']].set_visible(False)
        panels[0].set_ylabel(rf'{SYMBOLS[kind]}:  $\|\Delta W\|_2 / \|W\|_2$')
    for axes, title in zip(grid[0], columns.values(), strict=True):
        axes.set_title(title, fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _mark_stages(axes, layers: Sequence[str]) -> None:
    """Name each part of the network where its first layer is; parts of one layer, and where there is no room, are left out."""
    stages = [_stage(layer) for layer in layers]
    ticks: list[int] = []
    for index, stage in enumerate(stages):
        begins = (index == 0 or stage != stages[index - 1]) and stages[index + 1 : index + 2] == [stage]
        if begins and (not ticks or index - ticks[-1] >= len(stages) / 30):
            ticks.append(index)
    axes.set_xticks(ticks, [stages[index] for index in ticks], rotation=20, fontsize=7, ha='right', rotation_mode='anchor')


def _stage(layer: str) -> str:
    """``layer1`` for ``backbone.layer1.0.conv1``, ``decode_head`` for what lies in the head."""
    part, _, rest = layer.partition('.')
    return rest.split('.')[0] if part == 'backbone' else part
