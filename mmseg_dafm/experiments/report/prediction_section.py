"""The qualitative grid: image, label and one prediction per method."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image

from mmseg_dafm.analysis.qualitative import Row
from mmseg_dafm.experiments.report.images import label_map, photo
from mmseg_dafm.experiments.report.marks import Mark, swatch
from mmseg_dafm.experiments.report.markup import Markup, join, tag
from mmseg_dafm.experiments.report.predictions import Shots, cached_shots
from mmseg_dafm.experiments.suites.results import Result
from mmseg_dafm.experiments.suites.suite_file import Suite
from mmseg_dafm.experiments.suites.table import Table


def gather_shots(
    suite: Suite, results: Mapping[str, Sequence[Result]], out: Path, count: int
) -> tuple[dict[str, list[tuple[str, Shots]]], list[str]]:
    """Part of the table -> (row, what it predicts) for the first seed of every tested run, and a sentence for each that cannot.

    Args:
        suite: Of the runs.
        results: Run -> its finished seeds.
        out: The suite's folder; predictions are kept in its ``predictions``.
        count: Images per domain.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    found: dict[str, list[tuple[str, Shots]]] = {}
    problems = []
    for run in suite.runs:
        if run.row is None or run.kind == 'command' or not results.get(run.name):
            continue
        try:
            shots = cached_shots(results[run.name][0], out / 'predictions' / f'{run.name}.npz', count, device)
        except (ValueError, OSError, RuntimeError, KeyError, ImportError) as error:
            # one picture less is no reason to have no page
            problems.append(f'{run.name}: no prediction, {error}')
            continue
        same = found.setdefault(run.part, [])
        if same and same[0][1].names != shots.names:
            problems.append(f'{run.name}: no prediction, because its test images are not those of {same[0][0]}')
            continue
        same.append((run.row, shots))
    return found, problems


def prediction_section(shown: Sequence[tuple[str, Shots]], table: Table, marks: Mapping[str, Mark]) -> Markup:
    """One block per image: the image, its label, the predictions.

    Args:
        shown: (row, what it predicts), all on the same images.
        table: The suite's, for titles and groups.
        marks: Title of a method -> its mark.
    """
    rows = {row.name: row for row in table.rows}
    first = shown[0][1]
    colours = [
        tag('li', tag('span', class_='colour', style=f'background:rgb({",".join(map(str, colour))})'), name)
        for name, colour in zip(first.classes, first.palette.tolist(), strict=True)
    ]
    legend = tag(
        'ul', *colours, tag('li', tag('span', class_='colour', style='background:#000'), 'not labelled'), class_='legend'
    )
    blocks = []
    for i, (domain, image, label) in enumerate(zip(first.domains, first.images, first.labels, strict=True)):
        count = first.domains[: i + 1].count(domain)
        predictions = {name: shots.predictions[i] for name, shots in shown}
        blocks.append(_block(Row(f'{domain}, image {count}', image, label, predictions), rows, marks, first))
    return join(legend, *blocks)


def _block(row: Row, rows: Mapping, marks: Mapping[str, Mark], shots: Shots) -> Markup:
    tiles = [
        _tile(photo(Image.fromarray(row.image), f'{row.title}: the image'), 'image'),
        _tile(label_map(row.label, shots.palette, f'{row.title}: the label'), 'label'),
    ]
    # few tiles may be large
    width = 15 if len(row.predictions) <= 8 else 10
    group = ''
    for name, ids in row.predictions.items():
        of = rows[name]
        if of.group and of.group != group:
            tiles.append(tag('p', of.group, class_='group'))
        group = of.group
        alt = f'{row.title}: prediction of {of.title}'
        tiles.append(_tile(label_map(ids, shots.palette, alt), swatch(marks[of.title]), of.title))
    return tag('section', tag('h3', row.title), tag('div', *tiles, class_='tiles', style=f'--tile:{width}rem'))


def _tile(picture: Markup, *caption: object) -> Markup:
    return tag('figure', picture, tag('figcaption', *caption))
