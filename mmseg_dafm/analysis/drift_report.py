"""Tables of feature drift and weight change: CSV per image and per tensor, Markdown and JSON summaries."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmseg_dafm.analysis.drift import KINDS, MEASURES
from mmseg_dafm.core.files import replacing
from mmseg_dafm.evaluation.tables import show, without_nan

REFERENCES = ('before_conversion', 'after_conversion')


def summarise(rows: Sequence[Mapping], cka: Mapping[tuple[str, str, str], float]) -> dict:
    """Median and mean over the images of each method, layer and domain.

    Args:
        rows: Of :func:`mmseg_dafm.analysis.drift_run.compare`.
        cka: (method, layer, domain) -> CKA.

    Returns:
        method -> layer -> domain (and ``'all'``) -> ``images``, ``median`` and ``mean`` (measure -> value), ``cka``; values that
        are nan are left out of medians and means.
    """
    groups: dict[tuple, list[Mapping]] = {}
    for row in rows:
        for domain in dict.fromkeys((row['domain'], 'all')):
            groups.setdefault((row['method'], row['layer'], domain), []).append(row)
    summary: dict = {}
    # 'all' after the domains
    for (method, layer, domain), members in sorted(groups.items(), key=lambda item: item[0][2] == 'all'):
        values = {key: [row[key] for row in members if not math.isnan(row[key])] for key in MEASURES}
        summary.setdefault(method, {}).setdefault(layer, {})[domain] = dict(
            images=len(members),
            median={key: float(np.median(found)) if found else math.nan for key, found in values.items()},
            mean={key: float(np.mean(found)) if found else math.nan for key, found in values.items()},
            cka=cka.get((method, layer, domain), math.nan),
        )
    return summary


def median_changes(changes: Mapping[str, Sequence[Mapping]]) -> dict:
    """Median relative change over the layers of each method and kind, against both references.

    The mean is not reported: it is dominated by a few layers whose norm before training is tiny.

    Returns:
        method -> kind -> ``layers``, ``undefined`` (layers whose norm was zero; left out), and the median for each of
        :data:`REFERENCES`.
    """
    result: dict = {}
    for method, rows in changes.items():
        for kind in KINDS:
            members = [row for row in rows if row['kind'] == kind]
            if not members:
                continue
            entry = dict(layers=len(members), undefined=sum(math.isnan(row['before_conversion']) for row in members))
            for key in REFERENCES:
                found = [row[key] for row in members if not math.isnan(row[key])]
                entry[key] = float(np.median(found)) if found else math.nan
            result.setdefault(method, {})[kind] = entry
    return result


def write_report(
    folder: Path, rows: Sequence[Mapping], summary: Mapping, classes: Mapping, changes: Mapping, protocol: Mapping
) -> None:
    """Write ``drift.csv``, ``changes.csv``, ``drift.json`` and ``drift.md`` into ``folder``, each whole or not at all.

    Args:
        folder: Made if it is missing.
        rows: Per image.
        summary: Of :func:`summarise`.
        classes: (method, layer) -> class -> mean cosine.
        changes: method -> rows of :func:`mmseg_dafm.analysis.drift.weight_changes`.
        protocol: What was compared.
    """
    medians = median_changes(changes)
    by_class: dict = {}
    for (method, layer), values in classes.items():
        by_class.setdefault(method, {})[layer] = values
    content = dict(features=summary, classes=by_class, changes=medians, protocol=protocol)
    flat = [dict(method=method, **row) for method, found in changes.items() for row in found]
    texts = {
        'drift.csv': to_csv(rows, ('image', 'domain', 'layer', 'method', *MEASURES)),
        'changes.csv': to_csv(flat, ('method', 'tensor', 'layer', 'kind', 'norm', *REFERENCES)),
        'drift.json': json.dumps(without_nan(content), indent=1) + '\n',
        'drift.md': to_markdown(summary, by_class, medians, protocol),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding='utf-8')


def to_csv(rows: Sequence[Mapping], columns: Sequence[str]) -> str:
    """A table with a header; nan is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(columns)
    for row in rows:
        writer.writerow(['' if isinstance(row[key], float) and math.isnan(row[key]) else row[key] for key in columns])
    return buffer.getvalue()


def to_markdown(summary: Mapping, classes: Mapping, medians: Mapping, protocol: Mapping) -> str:
    """The summary as a page; CKA is unbiased and of pooled features."""
    titles = ('method', 'layer', 'domain', 'images', *(f'{key.replace("_", " ")}, median (mean)' for key in MEASURES), 'CKA')
    lines = [_line(titles), '|---|---|---|' + '---:|' * (len(titles) - 3)]
    for method, layers in summary.items():
        for layer, domains in layers.items():
            for domain, values in domains.items():
                cells = [f'{number(values["median"][key])} ({number(values["mean"][key])})' for key in MEASURES]
                lines.append(_line([method, layer, domain, values['images'], *cells, number(values['cka'])]))
    lines += ['', 'Relative change (DAFT, eq. 6), median over layers, before / after the conversion:', '']
    lines += [_line(['method', *KINDS]), '|---|' + '---:|' * len(KINDS)]
    for method, kinds in medians.items():
        cells = [' / '.join(number(kinds[kind][key]) for key in REFERENCES) if kind in kinds else '-' for kind in KINDS]
        lines.append(_line([method, *cells]))
    names = list(dict.fromkeys(name for layers in classes.values() for values in layers.values() for name in values))
    if names:
        lines += ['', 'Mean cosine of the positions of each class:', '', _line(['method', 'layer', *names])]
        lines.append('|---|---|' + '---:|' * len(names))
        for method, layers in classes.items():
            for layer, values in layers.items():
                lines.append(_line([method, layer, *(number(values.get(name, math.nan)) for name in names)]))
    lines += ['', '| protocol | |', '|---|---|']
    for key, value in protocol.items():
        if isinstance(value, Mapping):
            value = '; '.join(f'{name}: {show(item)}' for name, item in value.items()) or 'none'
        lines.append(_line([key.replace('_', ' '), value]))
    return '\n'.join(lines) + '\n'


def number(value: float) -> str:
    """Four significant digits, or a dash for nan."""
    return '-' if math.isnan(value) else f'{value:.4g}'


def _line(cells: Sequence) -> str:
    return f'| {" | ".join(map(show, cells))} |'
