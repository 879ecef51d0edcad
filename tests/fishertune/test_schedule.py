"""The growth of the trained set."""

import math

import pytest

from mmseg_dafm.fishertune.schedule import keep_ratio, threshold, trained_count

K = math.log(10)


def test_ratio_rises_as_documented():
    shares = [round(100 * keep_ratio(t / 4, 0.01, 0.05), 2) for t in range(5)]
    assert shares == [1.0, 2.95, 4.04, 4.65, 5.0]


def test_linear_growth_is_the_limit():
    assert keep_ratio(0.3, 0.0 + 1e-3, 0.05, 0) == pytest.approx(keep_ratio(0.3, 1e-3, 0.05, 1e-9))


def test_threshold_is_printed_equation_16():
    assert threshold(0.0, 0.01, 0.05) == 0.05
    assert threshold(1.0, 0.01, 0.05) == pytest.approx(0.01 + 0.04 * math.exp(-1))


def test_counts():
    base, candidates = 304_199_680, 276_824_064
    assert trained_count('ratio', 1.0, 0.01, 0.05, base, candidates, K) == 15_209_984
    assert trained_count('ratio', 0.0, 0.01, 0.05, base, candidates, K) == 3_041_996
    assert trained_count('constant', 0.0, 0.01, 0.05, base, candidates, K) == 15_209_984
    assert trained_count('threshold', 0.0, 0.01, 0.05, base, candidates, K) == math.floor(0.95 * candidates)
    assert trained_count('constant', 0.0, 0.5, 1.0, base, candidates, K) == candidates


def test_counts_never_fall():
    for mode in ('ratio', 'threshold', 'constant'):
        counts = [trained_count(mode, t / 72, 0.01, 0.05, 10_000, 9_000, K) for t in range(73)]
        assert counts == sorted(counts)


@pytest.mark.parametrize(('low', 'high'), [(0.0, 0.05), (0.06, 0.05), (1.0, 5.0)])
def test_shares_out_of_range(low, high):
    with pytest.raises(ValueError, match='0.05 is 5 %'):
        keep_ratio(0.5, low, high)


def test_progress_and_mode():
    with pytest.raises(ValueError, match='must lie in'):
        keep_ratio(1.2, 0.01, 0.05)
    with pytest.raises(ValueError, match="schedule='cosine' is unknown"):
        trained_count('cosine', 0.5, 0.01, 0.05, 10, 10, K)
