"""Report of a selection: JSON record and sensitivity picture per block and Q, K, V, FFN (FisherTune, figure 6)."""

import json
import logging
import os
import os.path as osp
from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.logging import print_log
from torch import Tensor

from mmseg_dafm.core.files import replacing
from mmseg_dafm.fishertune.criteria import DomainFisher, coefficient, ranking, score
from mmseg_dafm.fishertune.summary import Part, jaccard, summarise, table

TITLES = {'F': 'task (F)', 'dF': 'domain (ΔF)'}
KINDS = ('q', 'k', 'v', 'ffn')


def draw_sensitivity(
    panels: Mapping[str, Sequence[Part]], path: str | os.PathLike, overlap: Mapping[str, float] | None = None
) -> None:
    """Draw one row per criterion: mean scores on the left, shares of selected weights on the right.

    Circle colour and size grow with the value. Scores are divided by the largest of their row, because criteria have
    different units.

    Args:
        panels: Criterion -> its parts, see :func:`mmseg_dafm.fishertune.summary.summarise`.
        path: Picture file.
        overlap: Criterion -> Jaccard index with the first criterion, for the title.
    """
    # imported here, because `import mmseg_dafm` must not load matplotlib
    from matplotlib.figure import Figure

    blocks = max(part.block for parts in panels.values() for part in parts) + 1
    kinds = [kind for kind in KINDS if any(part.kind == kind for parts in panels.values() for part in parts)]
    size = (2 * max(3.4, 0.34 * blocks + 1.6), 0.5 + len(panels) * (0.5 * len(kinds) + 0.75))
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(len(panels), 2, squeeze=False)
    for row, (criterion, parts) in zip(axes, panels.items(), strict=True):
        scores, shares = (np.full((len(kinds), blocks), np.nan) for _ in range(2))
        for part in parts:
            at = kinds.index(part.kind), part.block
            scores[at] = np.nan if part.mean is None else part.mean
            shares[at] = 100 * part.share
        name = TITLES.get(criterion, criterion)
        shared = (overlap or {}).get(criterion)
        note = '' if shared is None else f', Jaccard with {next(iter(panels))}: {shared:.2f}'
        top = np.nanmax(scores) if np.isfinite(scores).any() else 1.0
        _circles(figure, row[0], scores / (top or 1.0), kinds, f'{name}: mean score / largest')
        _circles(figure, row[1], shares, kinds, f'{name}: selected, %{note}')
    for axis in axes[-1]:
        axis.set_xlabel('block')
    figure.savefig(path, dpi=150)


def _circles(figure, axis, values: np.ndarray, kinds: Sequence[str], title: str) -> None:
    rows, columns = np.nonzero(np.isfinite(values))
    seen = values[rows, columns]
    top = float(seen.max()) if len(seen) and seen.max() > 0 else 1.0
    points = axis.scatter(columns, rows, s=8 + 140 * seen / top, c=seen, cmap='viridis_r', vmin=0, vmax=top, linewidths=0)
    axis.set_yticks(range(len(kinds)), [kind.upper() for kind in kinds])
    step = 1 if values.shape[1] <= 12 else 2
    axis.set_xticks(range(0, values.shape[1], step))
    axis.set_xlim(-0.6, values.shape[1] - 0.4)
    axis.set_ylim(len(kinds) - 0.4, -0.6)
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=8)
    figure.colorbar(points, ax=axis, pad=0.01, aspect=12).ax.tick_params(labelsize=7)


SELECTION, PICTURE = 'fisher_selection.json', 'fisher_sensitivity.png'


def write_selection(
    folder: str, selected, best: Tensor, scores: Mapping[str, Tensor], fisher: DomainFisher | None, settings: Mapping
) -> None:
    """Write ``fisher_selection.json`` and ``fisher_sensitivity.png``, and log the share of each kind in each block.

    Args:
        folder: The work dir.
        selected: The optimizer wrapper, or any object with ``candidates``, ``tensors`` and ``backbone_parameters``.
        best: The ranking: flat ids, best first.
        scores: Tensor name -> scores.
        fisher: Fisher information behind the scores; None for criteria without data.
        settings: ``criterion``, ``coef`` and further settings to record.
    """
    criterion = settings['criterion']
    parts = summarise(best, selected.tensors, selected.candidates, scores)
    print_log(f'FisherTuneHook: share of weights selected by {criterion!r}:\n{table(parts)}', 'current')
    record = dict(settings, selected=len(best), backbone=selected.backbone_parameters)
    record.update(estimation=fisher.meta if fisher else None, parts=[part.to_dict() for part in parts])
    panels, overlap = {criterion: parts}, {}
    if fisher is not None:
        for other in (name for name in ('F', 'dF') if name != criterion and (name == 'F' or fisher.has_shift)):
            others = score(other, fisher)
            ids = ranking(others, selected.candidates, len(best))
            panels[other] = summarise(ids, selected.tensors, selected.candidates, others)
            overlap[other] = jaccard(ids, best)
        record.update(damping=fisher.damping, coefficient=coefficient(fisher.strengths, settings['coef']), overlap=overlap)
    with replacing(osp.join(folder, SELECTION)) as path:
        path.write_text(json.dumps(record, indent=1))
    try:
        with replacing(osp.join(folder, PICTURE)) as path:
            draw_sensitivity(panels, path, overlap)
    except (RuntimeError, OSError) as error:
        print_log(f'FisherTuneHook: {PICTURE} was not drawn: {error}', 'current', logging.WARNING)
