"""Confusion matrices and scores per domain."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def confusion_matrix(prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Count the pixels of each pair of true and predicted class, on the maps' device.

    Args:
        prediction: predicted classes, any integer type, any shape.
        label: true classes, of the same shape.
        num_classes: C.
        ignore_index: label id of ignored pixels.

    Returns:
        (C, C) int64; row = true class, column = predicted class.

    Raises:
        ValueError: If the shapes differ, or a counted pixel has a class outside 0 to C - 1.
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
    """Convert a share to percent, rounded to two decimals; nan stays nan."""
    return float(np.round(value * 100, 2))


def nanmean(values: np.ndarray) -> float:
    """Mean of the non-nan entries; nan if there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        return float(np.nanmean(values))


def scores(confusion: np.ndarray) -> dict:
    """Intersection over union and accuracy of a confusion matrix.

    For class c with truth ``t_c`` (row sum), prediction ``p_c`` (column sum) and hits ``h_c`` (diagonal):
    ``IoU_c = h_c / (t_c + p_c - h_c)`` and ``Acc_c = h_c / t_c``. A class that is neither in the labels nor in the
    predictions has IoU nan and is left out of the means, as in mmseg's ``IoUMetric``.

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


# Names of summary rows; a domain must not have one of them.
RESERVED = ('mean', 'target')


def check_domain(name: str) -> str:
    """Return the domain's name, or refuse a reserved one.

    Raises:
        ValueError: If it is the name of a summary row.
    """
    if name in RESERVED:
        raise ValueError(f"a domain must not be called '{name}': the metric's keys use that name; rename the domain.")
    return name


def summarise(confusions: Mapping[str, np.ndarray], source: str | None = None, target: Sequence[str] | None = None) -> dict:
    """Compute the scores of each domain, of all pixels pooled, and of the target domains.

    ``mIoU% = 100 * mIoU(target) / mIoU(source)``, where mIoU(target) pools the confusion matrices of the target domains.

    Args:
        confusions: domain -> (C, C) counts.
        source: the domain that the model was trained on, or None.
        target: the domains to generalise to; None: every domain except ``source``.

    Returns:
        ``domains`` (name -> :func:`~mmseg_dafm.evaluation.domain_scores.scores`), ``pooled`` (scores over all pixels),
        ``mean`` (mean mIoU of the target domains), ``targets`` (their names), ``missing`` (source and target domains without
        images); with ``source`` also ``target`` (pooled scores of the target domains) and ``percent`` (mIoU%). If a domain is
        missing, ``mean`` and ``percent`` are nan and ``target`` is None.

    Source: Domino, section 3 (mIoU% of ACDC over Cityscapes).
    """
    domains = {name: scores(confusion) for name, confusion in confusions.items()}
    pooled = scores(sum(confusions.values()))
    wanted = [name for name in confusions if name != source] if target is None else list(target)
    missing = [name for name in [*([] if source is None else [source]), *wanted] if name not in domains]
    seen = [name for name in wanted if name in domains]
    # without source images, one of the other domains may be the source under another name
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
    """Flatten a summary for the evaluator: ``mIoU``, ``mIoU.<domain>``, ``aAcc``, ``mAcc``, ``mIoU.mean``.

    With a source also ``mIoU.target`` (target domains pooled) and ``mIoU%``.
    """
    metrics = {key: summary['pooled'][key] for key in ('aAcc', 'mIoU', 'mAcc')}
    metrics.update({f'mIoU.{name}': values['mIoU'] for name, values in summary['domains'].items()})
    metrics['mIoU.mean'] = summary['mean']
    if 'source' in summary:
        metrics['mIoU.target'] = summary['target']['mIoU'] if summary['target'] else float('nan')
        metrics['mIoU%'] = summary['percent']
    return metrics
