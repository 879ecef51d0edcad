"""Confusion matrices and the scores that follow from them."""

import warnings

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
