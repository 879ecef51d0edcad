"""Scores per domain, pooled over domains, and the share of the source's score that is kept on the target."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmseg_dafm.evaluation.confusion import nanmean, scores

# Names of summary rows, which no domain may carry.
RESERVED = ('mean', 'target')


def check_domain(name: str) -> str:
    """Return the name, or refuse it.

    Raises:
        ValueError: the name is that of a summary row.
    """
    if name in RESERVED:
        raise ValueError(f"a domain must not be called '{name}': the metric's keys use that name; rename the domain.")
    return name


def summarise(confusions: Mapping[str, np.ndarray], source: str | None = None, target: Sequence[str] | None = None) -> dict:
    """Scores of every domain, of all pixels pooled, and of the target domains.

    ``mIoU% = 100 * mIoU(target) / mIoU(source)``, with the target's confusions pooled before its mIoU is taken.

    Args:
        confusions: domain -> (C, C) counts.
        source: the domain that the model was trained on; None if there is none.
        target: the domains to generalise to; None for every domain except ``source``.

    Returns:
        ``domains`` (name -> :func:`~mmseg_dafm.evaluation.confusion.scores`), ``pooled`` (scores over everything),
        ``mean`` (mean mIoU of the target domains), with ``source`` also ``target`` (pooled scores) and
        ``percent`` (mIoU%); domains that were asked for but not seen are listed in ``missing``, and what depends on
        them is nan.

    Source: Domino, section 3 (mIoU% of ACDC over Cityscapes).
    """
    domains = {name: scores(confusion) for name, confusion in confusions.items()}
    pooled = scores(sum(confusions.values()))
    wanted = [name for name in confusions if name != source] if target is None else list(target)
    missing = [name for name in [*([] if source is None else [source]), *wanted] if name not in domains]
    seen = [name for name in wanted if name in domains]
    complete = bool(seen) and len(seen) == len(wanted)
    summary = {'domains': domains, 'pooled': pooled, 'missing': missing, 'targets': wanted}
    summary['mean'] = round(nanmean(np.array([domains[name]['mIoU'] for name in seen])), 2) if complete else float('nan')
    if source is not None:
        summary['source'] = source
        summary['target'] = scores(sum(confusions[name] for name in seen)) if complete else None
        summary['percent'] = float('nan')
        if complete and source in domains and domains[source]['mIoU'] > 0:
            summary['percent'] = round(100 * summary['target']['mIoU'] / domains[source]['mIoU'], 2)
    return summary


def flat_metrics(summary: dict) -> dict[str, float]:
    """The numbers that the evaluator returns: ``mIoU``, ``mIoU.<domain>``, ``aAcc``, ``mAcc``, ``mIoU.mean``, ``mIoU%``.

    With a source also ``mIoU.target``, the pooled score of the target domains.
    """
    metrics = {key: summary['pooled'][key] for key in ('aAcc', 'mIoU', 'mAcc')}
    metrics.update({f'mIoU.{name}': values['mIoU'] for name, values in summary['domains'].items()})
    metrics['mIoU.mean'] = summary['mean']
    if 'source' in summary:
        metrics['mIoU.target'] = summary['target']['mIoU'] if summary['target'] else float('nan')
        metrics['mIoU%'] = summary['percent']
    return metrics
