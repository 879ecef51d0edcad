"""Scores under corruption: means per corruption, per group and overall, absolute and relative to the clean score."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mmseg_dafm.datasets.corruptions import CORRUPTIONS, GROUPS, group_of
from mmseg_dafm.evaluation.tables import number, show

# Noise of severity 4 and 5 leaves nothing to segment: Kamann and Rother, and SegFormer, exclude it.
LARGEST_NOISE = 3
Condition = tuple[str, int]


def counts(corruption: str, severity: int) -> bool:
    """Whether a severity counts in the means: 1 to 3 for the four noises, all for the others."""
    return severity <= LARGEST_NOISE or group_of(corruption) != 'noise'


def summarise(clean: float, scores: Mapping[Condition, float]) -> dict:
    """Compute the means of scores under corruption.

    With the mIoU ``P`` of clean images and ``P_cs`` under corruption c at severity s, ``P_c`` is the mean over the
    severities that count, ``mPC`` the mean of all ``P_c`` and ``rPC = 100 mPC / P``. DAFT calls the mean error
    ``100 - mPC`` mCE; unlike ImageNet-C's mCE, it is not divided by the errors of AlexNet.

    Args:
        clean: P, in percent.
        scores: (corruption, severity) -> P_cs in percent; severity 1 to 5.

    Returns:
        ``clean``; ``corruptions`` (name -> ``severities`` with all scores by severity, and ``mean``); ``groups`` (name ->
        mean of the group's P_c); ``mPC``, ``rPC``, ``mean_error``. Percentages rounded to two decimals; nan if no
        severity counts or a score is nan.

    Raises:
        ValueError: If there is no score, or a corruption is unknown.

    Source: Hendrycks and Dietterich (2019); mPC and rPC: Michaelis et al. (2019); the severities that count: Kamann and
    Rother (2020); DAFT, Table 4.
    """
    unknown = sorted({name for name, _ in scores} - set(CORRUPTIONS))
    if unknown or not scores:
        raise ValueError(f'summarise needs scores of {", ".join(CORRUPTIONS)}; got {unknown or "none"}.')
    corruptions, means = {}, {}
    for name in (name for name in CORRUPTIONS if any(name == found for found, _ in scores)):
        found = {severity: value for (other, severity), value in sorted(scores.items()) if other == name}
        counted = [value for severity, value in found.items() if counts(name, severity)]
        means[name] = float(np.mean(counted)) if counted else float('nan')
        corruptions[name] = {'severities': found, 'mean': _two(means[name]), 'counted': len(counted)}
    entering = {name: mean for name, mean in means.items() if corruptions[name]['counted']}
    mpc = float(np.mean(list(entering.values()))) if entering else float('nan')
    groups = {group: [entering[name] for name in names if name in entering] for group, names in GROUPS.items()}
    return {
        'clean': clean,
        'corruptions': corruptions,
        'groups': {group: _two(float(np.mean(values))) for group, values in groups.items() if values},
        'mPC': _two(mpc),
        'rPC': _two(100 * mpc / clean) if clean > 0 else float('nan'),
        'mean_error': _two(100 - mpc),
    }


def describe_set(summary: Mapping) -> str:
    """Describe in a few sentences which corruptions and severities the means contain."""
    names = list(summary['corruptions'])
    which = 'all 16 corruptions of the segmentation set' if len(names) == len(CORRUPTIONS) else f'only {", ".join(names)}'
    severities = sorted({severity for name in names for severity in summary['corruptions'][name]['severities']})
    noise = f'; of the noises only severities up to {LARGEST_NOISE} count' if 'noise' in map(group_of, names) else ''
    drawn = ''
    if 'frost' in names or 'spatter' in names:
        drawn = (
            " Frost and spatter are the project's own drawings: their mean strength over an image is within 10 % of the "
            'published one, but the pictures differ. Spatter at severity 1 is not comparable with published numbers.'
        )
    return (
        f'Means over {which}, severities {", ".join(map(str, severities))}{noise}. Scores are averaged over '
        'severities, then over corruptions. Mean error = 100 - mPC, not normalised by AlexNet (DAFT calls it mCE).' + drawn
    )


def to_markdown(summaries: Mapping[str, Mapping], protocol: Mapping) -> str:
    """Format a Markdown page: means per domain, mIoU per corruption and severity, and the protocol.

    Args:
        summaries: domain -> result of :func:`summarise`. The first is that of all images; its scores per severity are shown.
        protocol: Name -> value.
    """
    first = next(iter(summaries.values()))
    groups = list(first['groups'])
    heads = ['mIoU', 'clean P', 'mPC', 'rPC %', 'mean error', *groups]
    lines = [f'| {" | ".join(heads)} |', '|---|' + '---:|' * (len(heads) - 1)]
    for domain, summary in summaries.items():
        values = [summary[key] for key in ('clean', 'mPC', 'rPC', 'mean_error')]
        values += [summary['groups'][group] for group in groups]
        lines.append(f'| {domain} | {" | ".join(map(number, values))} |')
    lines += ['', describe_set(first), '']
    severities = sorted({severity for row in first['corruptions'].values() for severity in row['severities']})
    heads = ['corruption', 'group', *map(str, severities), 'mean']
    lines += [f'| {" | ".join(heads)} |', '|---|---|' + '---:|' * (len(heads) - 2)]
    for name, row in first['corruptions'].items():
        cells = [_cell(name, severity, row['severities']) for severity in severities]
        lines.append(f'| {name} | {group_of(name)} | {" | ".join(cells)} | {number(row["mean"])} |')
    lines += ['', f'mIoU of all images; in brackets: does not count. Clean: {number(first["clean"])}.', '']
    lines += ['| protocol | |', '|---|---|', *(f'| {key} | {show(value)} |' for key, value in protocol.items())]
    return '\n'.join(lines) + '\n'


def _cell(name: str, severity: int, scores: Mapping[int, float]) -> str:
    if severity not in scores:
        return ''
    text = number(scores[severity])
    return text if counts(name, severity) else f'({text})'


def to_csv(summaries: Mapping[str, Mapping]) -> str:
    """Format a CSV table of each domain's mIoU: one line per corruption and severity; clean images have severity 0."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    first = next(iter(summaries.values()))
    writer.writerow(['corruption', 'group', 'severity', 'counts', *(_column(domain) for domain in summaries)])
    writer.writerow(['clean', '', 0, '', *(_blank(summary['clean']) for summary in summaries.values())])
    for name, row in first['corruptions'].items():
        for severity in row['severities']:
            scores = [summary['corruptions'][name]['severities'][severity] for summary in summaries.values()]
            writer.writerow([name, group_of(name), severity, int(counts(name, severity)), *map(_blank, scores)])
    return buffer.getvalue()


def _column(domain: str) -> str:
    return 'mIoU' if domain == 'all' else f'mIoU.{domain}'


def _blank(value: float) -> float | str:
    return '' if math.isnan(value) else value


def _two(value: float) -> float:
    return round(value, 2)


def domain_scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """Select the mIoU of all images and of each domain from an evaluator's scores.

    Args:
        metrics: Score names, with or without prefix: ``mIoU`` (``IoUMetric``) and ``mIoU.<domain>`` (``DomainIoUMetric``).

    Returns:
        ``all`` and each domain -> mIoU in percent.

    Raises:
        ValueError: If there is no ``mIoU``.
    """
    found = {}
    for name, value in metrics.items():
        key = name.rsplit('/', 1)[-1]
        if key == 'mIoU':
            found.setdefault('all', float(value))
        elif key.startswith('mIoU.') and key != 'mIoU.mean':
            found[key.removeprefix('mIoU.')] = float(value)
    if 'all' not in found:
        raise ValueError(
            f'test_evaluator gave {sorted(metrics)}, and no mIoU: use DomainIoUMetric, or IoUMetric with iou_metrics=["mIoU"].'
        )
    return {'all': found.pop('all'), **found}


def by_domain(clean: Mapping[str, float], scores: Mapping[Condition, Mapping[str, float]]) -> dict[str, dict]:
    """Apply :func:`summarise` to ``all`` and every domain.

    Args:
        clean: domain -> mIoU of clean images, from :func:`domain_scores`.
        scores: (corruption, severity) -> domain -> mIoU of corrupted images.
    """
    return {domain: summarise(clean[domain], {key: found[domain] for key, found in scores.items()}) for domain in clean}


def select_severities(severities: Sequence[int]) -> tuple[int, ...]:
    """Sort severities and drop repeats.

    Raises:
        ValueError: If a severity is not between 1 and 5, or there is none.
    """
    wrong = [severity for severity in severities if not 1 <= severity <= 5]
    if wrong or not severities:
        raise ValueError(f'severities must lie between 1 and 5, got {list(severities)}.')
    return tuple(sorted(set(severities)))
