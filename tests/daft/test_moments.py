"""Moments of batches: precision, merging, estimators."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_dafm.daft import BatchEstimator, Moments, PooledEstimator, batch_moments, merge


@pytest.mark.parametrize('shape', [(16, 5), (4, 5, 7), (3, 5, 9, 11), (2, 5, 3, 4, 6), (4, 5, 1, 1)])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_they_are_those_of_all_values_of_a_channel(shape, dtype):
    x = (torch.randn(shape) * 3 + 2).to(dtype)
    count, mean, m2 = batch_moments(x)
    values = x.double().movedim(1, 0).flatten(1)
    assert count == values.shape[1]
    rtol = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(mean, values.mean(1), rtol=rtol, atol=rtol)
    torch.testing.assert_close(m2, (values - values.mean(1, keepdim=True)).square().sum(1), rtol=rtol, atol=rtol)


@pytest.mark.parametrize('offset', [10, 100, 1000, 3000])
def test_a_large_mean_costs_no_digits(offset):
    x = torch.randn(8, 4, 32, 32) + offset
    exact = torch.var(x.double(), (0, 2, 3), correction=0)
    count, _, m2 = batch_moments(x)
    assert ((m2 / count) / exact - 1).abs().max() < 5e-7
    naive = x.square().mean((0, 2, 3)) - x.mean((0, 2, 3)).square()
    assert offset < 1000 or (naive / exact - 1).abs().max() > 1e-3, 'the test can tell'


def test_half_precision_does_not_overflow():
    x = (torch.randn(4, 3, 8, 8) * 300).half()  # its squares exceed 65504
    assert batch_moments(x).m2.isfinite().all()


def test_the_input_is_untouched():
    x = torch.randn(4, 3, 8, 8)
    kept = x.clone()
    batch_moments(x)
    assert torch.equal(x, kept)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(-10_000, 10_000), st.integers(0, 99))
def test_merging_is_exact_whatever_the_split(sizes, offset, seed):
    generator = torch.Generator().manual_seed(seed)
    groups = [torch.randn(size, 3, generator=generator, dtype=torch.float64) * (i + 1) + offset for i, size in enumerate(sizes)]
    joined = merge([batch_moments(group) for group in groups])
    whole = batch_moments(torch.cat(groups))
    assert joined.count == whole.count
    torch.testing.assert_close(joined.mean, whole.mean, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(joined.m2, whole.m2, rtol=1e-7, atol=1e-6)
    step_by_step = batch_moments(groups[0])
    for group in groups[1:]:
        step_by_step = merge([step_by_step, batch_moments(group)])
    torch.testing.assert_close(step_by_step.m2, whole.m2, rtol=1e-7, atol=1e-6)


def test_pooled_minus_batch_is_the_variance_between_batches():
    batches = [torch.randn(4, 2, 5, 5, dtype=torch.float64) + torch.randn(1, 2, 1, 1, dtype=torch.float64) for _ in range(50)]
    batch, pooled = BatchEstimator(), PooledEstimator()
    for x in batches:
        batch.add(batch_moments(x))
        pooled.add(batch_moments(x))
    means = torch.stack([x.mean((0, 2, 3)) for x in batches])
    assert torch.allclose(batch.result()[0], pooled.result()[0])
    biased = torch.stack([x.var((0, 2, 3), correction=0) for x in batches]).mean(0)
    total = pooled.result()[1] * (5000 - 1) / 5000
    torch.testing.assert_close(total, biased + means.var(0, correction=0))
    assert (batch.result()[1] < pooled.result()[1]).all()


def test_equal_batches_weigh_equally_as_equation_3_says():
    estimator = BatchEstimator()
    values = [torch.randn(6, 3, dtype=torch.float64) for _ in range(4)]
    for value in values:
        estimator.add(batch_moments(value))
    mean, variance = estimator.result()
    torch.testing.assert_close(mean, torch.stack([value.mean(0) for value in values]).mean(0))
    torch.testing.assert_close(variance, torch.stack([value.var(0) for value in values]).mean(0))


def test_unequal_batches_weigh_by_values_or_by_calls():
    values = [torch.randn(size, 3, dtype=torch.float64) + size for size in (2, 6, 40)]
    parts = [batch_moments(value) for value in values]
    means, variances = (torch.stack([get(value) for value in values]) for get in (lambda x: x.mean(0), lambda x: x.var(0)))
    for weigh, weights in (('values', torch.tensor([2.0, 6, 40]) / 48), ('calls', torch.full((3,), 1 / 3))):
        estimator = BatchEstimator(weigh)
        for part in parts:
            estimator.add(part)
        for found, each in zip(estimator.result(), (means, variances), strict=True):
            torch.testing.assert_close(found, (weights.double()[:, None] * each).sum(0), rtol=1e-7, atol=1e-7)


def test_calls_are_what_running_statistics_weigh():
    # a cumulative average of torch's own, fed by a large and by a small map
    x, small = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.randn(4, 3, 2, 2, dtype=torch.float64) * 3 + 1
    norm = torch.nn.BatchNorm2d(3, momentum=None).double()
    norm(x), norm(small)
    found = {weigh: BatchEstimator(weigh) for weigh in ('calls', 'values')}
    for estimator in found.values():
        estimator.add(batch_moments(x)), estimator.add(batch_moments(small))
    for each, running in zip(found['calls'].result(), (norm.running_mean, norm.running_var), strict=True):
        torch.testing.assert_close(each, running)
    assert (found['values'].result()[1] - norm.running_var).abs().min() > 1


def test_one_value_has_no_variance():
    one = Moments(torch.tensor(1.0), torch.zeros(3), torch.zeros(3))
    batch = BatchEstimator()
    batch.add(one)
    assert (batch.batches, batch.left_out, batch.sums) == (0, 1, None)
    pooled = PooledEstimator()
    pooled.add(one)
    with pytest.raises(ValueError, match='one value per channel in all batches'):
        pooled.result()
    pooled.add(one)
    assert pooled.result()[1].tolist() == [0, 0, 0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_the_gpus_kernel_agrees():
    x = torch.randn(8, 16, 20, 20) + 100
    for here, there in zip(batch_moments(x), batch_moments(x.cuda()), strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-5)
