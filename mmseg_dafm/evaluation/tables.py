"""Tables of scores per domain, as Markdown, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence

from mmseg_dafm.core.files import replacing


def rows(summary: Mapping) -> list[tuple[str, dict]]:
    """Named rows of a table: each domain, the target (if there is a source), and all pixels pooled.

    Args:
        summary: result of :func:`mmseg_dafm.evaluation.domain_scores.summarise`.
    """
    named = list(summary['domains'].items())
    if summary.get('target'):
        named.append(('target', summary['target']))
    return [*named, ('all', summary['pooled'])]


def number(value: float) -> str:
    """Format with two decimals; nan, as of a class that does not occur, as a dash."""
    return '-' if math.isnan(value) else f'{value:.2f}'


def to_markdown(summary: Mapping, classes: Sequence[str], protocol: Mapping) -> str:
    """Format a Markdown page: mIoU per domain, IoU per class and domain, and the protocol of the test.

    Args:
        summary: result of :func:`mmseg_dafm.evaluation.domain_scores.summarise`.
        classes: names of the C classes.
        protocol: result of :func:`mmseg_dafm.evaluation.protocol.describe_test`.
    """
    named = rows(summary)
    lines = ['| domain | images | mIoU | mAcc | aAcc |', '|---|---:|---:|---:|---:|']
    for name, values in named:
        cells = [name, str(values.get('images', '-')), *(number(values[key]) for key in ('mIoU', 'mAcc', 'aAcc'))]
        lines.append(f'| {" | ".join(cells)} |')
    lines += ['', f'Mean mIoU of {", ".join(summary["targets"])}: {number(summary["mean"])}.']
    if 'source' in summary:
        lines.append(f'mIoU% (target / {summary["source"]}): {number(summary["percent"])}.')
    lines += ['', f'| IoU | {" | ".join(name for name, _ in named)} |', '|---|' + '---:|' * len(named)]
    for i, class_name in enumerate(classes):
        lines.append(f'| {class_name} | {" | ".join(number(values["IoU"][i]) for _, values in named)} |')
    lines += ['', '| protocol | |', '|---|---|']
    lines += [f'| {key} | {show(value)} |' for key, value in protocol.items()]
    return '\n'.join(lines) + '\n'


def show(value) -> str:
    """Format a value of the protocol for a Markdown cell."""
    text = ', '.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text.replace('|', '\\|')


def to_csv(summary: Mapping, classes: Sequence[str]) -> str:
    """Format a CSV table: per domain mIoU, mAcc, aAcc, pixels and the IoU of every class; nan is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(['domain', 'mIoU', 'mAcc', 'aAcc', 'pixels', *(f'IoU.{name}' for name in classes)])
    for name, values in rows(summary):
        cells = [values['mIoU'], values['mAcc'], values['aAcc'], values['pixels'], *values['IoU']]
        writer.writerow([name, *('' if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells)])
    return buffer.getvalue()


def to_json(summary: Mapping, classes: Sequence[str], protocol: Mapping) -> str:
    """Format a JSON object with ``classes``, ``summary`` and ``protocol``; nan becomes null, as JSON has no nan."""
    content = {'classes': list(classes), 'summary': summary, 'protocol': protocol}
    return json.dumps(without_nan(content), indent=2, allow_nan=False) + '\n'


def without_nan(value):
    """Replace nan by None in nested dicts, lists and tuples."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def write_text(path: str, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
