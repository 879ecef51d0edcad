"""Confusion matrices per domain, and the scores that follow from them."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def confusion_matrix(prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Count the pixels of each pair of class and prediction, on the device where the maps lie.

    Args:
        prediction: predicted classes, any integer type, any shape.
        label: true classes, of the same shape; ``ignore_index`` marks pixels that do not count.
        num_classes: C.
        ignore_index: the id that does not count.

    Returns:
        (C, C) int64; row = true class, column = predicted class.

    Raises:
        ValueError: the shapes differ, or a counted pixel holds a class outside 0 to C - 1.
    """
    if prediction.shape != label.shape:
        raise ValueError(f'prediction {tuple(prediction.shape)} and label {tuple(label.shape)} differ in shape.')
    counted = label != ignore_index
    truth, guess = label[counted].long(), prediction[counted].long()
    for name, values in (('label', truth), ('prediction', guess)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < num_classes:
            raise ValueError(
                f'the {name} holds ids from {int(values.min())} to {int(values.max())}, expected 0 to '
                f'{num_classes - 1} (or {ignore_index}, ignored).'
            )
    return torch.bincount(truth * num_classes + guess, minlength=num_classes**2).reshape(num_classes, num_classes)


def percent(value: float) -> float:
    """Turn a share into percent, rounded at two decimals; nan stays nan."""
    return float(np.round(value * 100, 2))


def nanmean(values: np.ndarray) -> float:
    """Mean of the entries that are not nan; nan if there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        return float(np.nanmean(values))


def scores(confusion: np.ndarray) -> dict:
    """Intersection over union and accuracy of a confusion matrix.

    For class c with truth ``t_c`` (row sum), prediction ``p_c`` (column sum) and hits ``h_c`` (diagonal):
    ``IoU_c = h_c / (t_c + p_c - h_c)`` and ``Acc_c = h_c / t_c``. A class without truth and prediction has no IoU (nan)
    and does not count in the means, as in mmseg's ``IoUMetric``.

    Args:
        confusion: (C, C) counts; row = true class.

    Returns:
        ``mIoU``, ``mAcc``, ``aAcc`` in percent, ``IoU`` and ``Acc`` as lists of C percentages, ``pixels`` as a count.
    """
    hits, truth, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        iou, acc = hits / (truth + predicted - hits), hits / truth
        all_acc = hits.sum() / truth.sum()
    return {
        'mIoU': percent(nanmean(iou)),
        'mAcc': percent(nanmean(acc)),
        'aAcc': percent(all_acc),
        'IoU': [percent(value) for value in iou],
        'Acc': [percent(value) for value in acc],
        'pixels': int(truth.sum()),
    }


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
        ``domains`` (name -> :func:`~mmseg_dafm.evaluation.domain_scores.scores`), ``pooled`` (scores over everything),
        ``mean`` (mean mIoU of the target domains), with ``source`` also ``target`` (pooled scores) and
        ``percent`` (mIoU%); domains that were asked for but not seen are listed in ``missing``, and ``mean``, ``target`` and
        ``percent`` are then nan.

    Source: Domino, section 3 (mIoU% of ACDC over Cityscapes).
    """
    domains = {name: scores(confusion) for name, confusion in confusions.items()}
    pooled = scores(sum(confusions.values()))
    wanted = [name for name in confusions if name != source] if target is None else list(target)
    missing = [name for name in [*([] if source is None else [source]), *wanted] if name not in domains]
    seen = [name for name in wanted if name in domains]
    # without the source's images the domains that remain may hold the real source under another name
    complete = bool(seen) and len(seen) == len(wanted) and (source is None or source in domains)
    summary = {'domains': domains, 'pooled': pooled, 'missing': missing, 'targets': wanted}
    summary['mean'] = round(nanmean(np.array([domains[name]['mIoU'] for name in seen])), 2) if complete else float('nan')
    if source is not None:
        summary['source'] = source
        summary['target'] = scores(sum(confusions[name] for name in seen)) if complete else None
        summary['percent'] = float('nan')
        if complete and domains[source]['mIoU'] > 0:
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
