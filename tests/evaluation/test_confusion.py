"""Confusion matrices and scores against slow pixel loops and mmseg's own metric."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmseg.evaluation import IoUMetric

from mmseg_dafm.evaluation.domain_scores import confusion_matrix, scores


def random_maps(seed, classes=5, shape=(1, 12, 17), ignored=0.2):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(0, classes, shape, generator=generator)
    label = torch.randint(0, classes, shape, generator=generator)
    label[torch.rand(shape, generator=generator) < ignored] = 255
    return prediction, label


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_counts_equal_a_pixel_loop(seed, classes):
    prediction, label = random_maps(seed, classes)
    slow = np.zeros((classes, classes), int)
    for guess, truth in zip(prediction.flatten().tolist(), label.flatten().tolist(), strict=True):
        if truth != 255:
            slow[truth, guess] += 1
    fast = confusion_matrix(prediction, label, classes)
    assert fast.dtype == torch.int64
    np.testing.assert_array_equal(fast.numpy(), slow)


def test_splitting_the_image_does_not_change_the_sum():
    prediction, label = random_maps(3)
    parts = [confusion_matrix(prediction[:, rows], label[:, rows], 5) for rows in (slice(0, 5), slice(5, 12))]
    assert sum(parts).equal(confusion_matrix(prediction, label, 5))


def test_eight_bit_maps_do_not_overflow():
    """19 * 18 exceeds 255: counting must not happen in the type of the maps."""
    prediction = torch.full((1, 2, 2), 18, dtype=torch.uint8)
    label = torch.full((1, 2, 2), 18, dtype=torch.uint8)
    assert confusion_matrix(prediction, label, 19)[18, 18] == 4


@pytest.mark.parametrize('seed', range(4))
def test_scores_equal_mmsegs(seed):
    """Class 4 never occurs and class 3 is never true: the two kinds of gaps are treated as mmseg treats them."""
    prediction, label = random_maps(seed, classes=4, shape=(1, 40, 50))
    label[label == 3] = 0
    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=tuple('abcde'))
    metric.process({}, [dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=label))])
    expected = metric.evaluate(1)
    ours = scores(confusion_matrix(prediction, label, 5).numpy())
    assert {key: ours[key] for key in expected} == {key: pytest.approx(float(v), abs=0.011) for key, v in expected.items()}
    assert math.isnan(ours['IoU'][4])
    assert ours['IoU'][3] == 0
    assert math.isnan(ours['Acc'][3])


def test_hand_made_scores():
    values = scores(np.array([[3, 1], [2, 4]]))
    assert values['IoU'] == [50.0, 57.14]
    assert values['Acc'] == [75.0, 66.67]
    assert (values['mIoU'], values['aAcc'], values['pixels']) == (53.57, 70.0, 10)


def test_nothing_counted_is_nan_without_a_warning(recwarn):
    values = scores(np.zeros((3, 3), int))
    assert math.isnan(values['mIoU'])
    assert math.isnan(values['aAcc'])
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_failures():
    with pytest.raises(ValueError, match=r'prediction \(1, 2, 2\) and label \(1, 2, 3\) differ in shape'):
        confusion_matrix(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3), 2)
    with pytest.raises(ValueError, match='the label holds ids from 0 to 7, expected 0 to 4'):
        confusion_matrix(torch.tensor([0, 0]), torch.tensor([0, 7]), 5)
    with pytest.raises(ValueError, match='the prediction holds ids from -1 to 0'):
        confusion_matrix(torch.tensor([0, -1]), torch.tensor([0, 1]), 5)
