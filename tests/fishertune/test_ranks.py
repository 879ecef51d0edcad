"""Largest entries and ranks without sorting, against sorting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_dafm.fishertune.selection import largest, order_keys, quantiles


def by_sorting(parts, count):
    """Flat ids by a stable sort of everything."""
    flat = np.concatenate([part.numpy().ravel() for part in parts])
    return torch.from_numpy(np.argsort(-flat, kind='stable')[:count].copy())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 3), st.integers(0, 12))
def test_largest_is_what_sorting_gives(seed, size, tensors, levels):
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.rand(size + i, generator=generator) * 10.0 ** (i * 3) for i in range(tensors)]
    if levels:
        # many equal scores, zeros among them
        parts = [(part * levels).floor() for part in parts]
    total = sum(part.numel() for part in parts)
    for count in {1, total // 2 or 1, total}:
        assert torch.equal(largest(parts, count), by_sorting(parts, count))


def test_largest_of_a_million_over_twelve_decades():
    parts = [torch.exp(torch.randn(400_000, generator=torch.Generator().manual_seed(i)) * 4 - 20) for i in range(3)]
    assert torch.equal(largest(parts, 60_000), by_sorting(parts, 60_000))


def test_negative_scores_never_enter():
    parts = [torch.tensor([-1.0, 3.0, -1.0]), torch.tensor([2.0, 5.0, 0.0])]
    assert largest(parts, 4).tolist() == [4, 1, 3, 5]
    with pytest.raises(ValueError, match='5 entries are wanted out of 4'):
        largest(parts, 5)


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_scores_must_be_finite(bad):
    with pytest.raises(ValueError, match='finite'):
        largest([torch.tensor([1.0, bad])], 1)
    with pytest.raises(ValueError, match='finite'):
        quantiles([torch.tensor([1.0, bad])])


@pytest.mark.parametrize('count', [1000, 2**20 + 1])
def test_quantiles_of_scores_within_one_bin_are_exact(count):
    """Scores that differ by less than 0.8 % share a bin; a few are far away, and some are equal."""
    scores = 1 + torch.rand(count, generator=torch.Generator().manual_seed(0)) ** 4 * 1e-3
    scores[:7] = torch.tensor([0.0, 1e-9, 5.0, 1.0, 1.0, 1.0, 1e9])
    _, inverse, counts = np.unique(scores.numpy(), return_inverse=True, return_counts=True)
    average = np.cumsum(counts) - (counts - 1) / 2
    found = torch.cat(quantiles(scores.split(count // 2))).numpy()
    assert np.abs(found * count - average[inverse]).max() < count * 1e-6


def test_quantiles_are_ranks():
    parts = [torch.exp(torch.randn(50_000, generator=torch.Generator().manual_seed(i)) * 5) for i in range(2)]
    found = torch.cat(quantiles(parts)).numpy()
    flat = torch.cat(parts).numpy()
    ranks = np.empty(len(flat))
    ranks[np.argsort(flat)] = np.arange(1, len(flat) + 1)
    assert np.abs(found - ranks / len(flat)).max() < 3e-4
    assert (np.diff(found[np.argsort(flat)]) >= 0).all()


def test_equal_scores_share_their_rank_and_zero_is_not_split():
    found = quantiles([torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0])])[0]
    assert found[:3].unique().numel() == 1
    torch.testing.assert_close(found, torch.tensor([2.0, 2.0, 2.0, 4.0, 5.0]) / 5)


def test_keys_keep_the_order():
    values = torch.tensor([0.0, -0.0, 1e-45, 1e-38, 1e-8, 1.0, 3e38])
    keys = order_keys(values)
    assert (keys.diff() >= 0).all()
    assert keys[0] == keys[1]
