"""MMD and domain classifier against slow references and against what is known of equal and of distant domains."""

import numpy as np
import pytest

from mmseg_dafm.analysis.domain_features import draw_images
from mmseg_dafm.analysis.domain_gap import (
    classifier_accuracy,
    gap_table,
    independent_rows,
    kernel,
    mmd_squared,
    mmd_test,
    proxy_distance,
)
from mmseg_dafm.analysis.domain_gap_picture import draw_domains, embed

pytest.importorskip('sklearn')
RNG = np.random.default_rng(0)


def two(shift: float, count: int = 40, width: int = 6, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)), rng.normal(size=(count + 3, width)) + shift


def test_kernel_and_mmd_are_those_of_explicit_loops():
    x, y = two(0.7, 7, 3)
    both = np.concatenate([x, y])
    distance = [[((a - b) ** 2).sum() for b in both] for a in both]
    median = np.median([distance[i][j] for i in range(len(both)) for j in range(i + 1, len(both))])
    k = lambda i, j: np.mean([np.exp(-distance[i][j] / (2 * s**2 * median)) for s in (0.5, 1, 2)])  # noqa: E731
    m, n = len(x), len(y)
    first = [k(i, j) for i in range(m) for j in range(m) if i != j]
    second = [k(m + i, m + j) for i in range(n) for j in range(n) if i != j]
    cross = [k(i, m + j) for i in range(m) for j in range(n)]
    expected = np.mean(first) + np.mean(second) - 2 * np.mean(cross)
    gram = kernel(both)
    assert mmd_squared(gram, np.arange(m + n) < m) == pytest.approx(expected, rel=1e-10)
    # which of the two is first, and the order of the images, do not matter
    order = np.random.default_rng(1).permutation(m + n)
    assert mmd_squared(gram[np.ix_(order, order)], order >= m) == pytest.approx(expected, rel=1e-10)


def compare(x, y, permutations=99, seed=0):
    """MMD^2 and p of two sets with a kernel of their own."""
    return mmd_test(kernel(np.concatenate([x, y])), np.arange(len(x) + len(y)) < len(x), permutations, seed)


def test_mmd_does_not_depend_on_the_scale_of_the_features():
    x, y = two(0.5)
    assert compare(x, y)[0] == pytest.approx(compare(1e4 * x + 3, 1e4 * y + 3)[0], rel=1e-6)


def test_equal_distributions_give_mmd_around_zero_and_uniform_p():
    values, ps = zip(*(compare(*two(0, seed=seed), seed=seed) for seed in range(40)), strict=True)
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 0.005
    assert 0.3 < np.mean(ps) < 0.7
    assert 0 <= np.mean(np.array(ps) <= 0.1) <= 0.3


def test_distant_domains_are_found():
    value, p = compare(*two(1.0), 199)
    assert value > 0.1
    assert p == 1 / 200
    assert compare(*two(2.0))[0] > value


def test_classifier_is_at_chance_for_equal_domains_and_right_for_distant_ones():
    names = np.repeat(['a', 'b', 'c'], 60)
    features = RNG.normal(size=(180, 4))
    assert abs(classifier_accuracy(features, names) - 1 / 3) < 0.12
    features[names == 'b'] += 5
    features[names == 'c'] -= 5
    assert classifier_accuracy(features, names) > 0.97


def test_domains_count_equally_however_many_images_they_have():
    rng = np.random.default_rng(3)
    features, names = rng.normal(size=(330, 1)), np.array(['many'] * 300 + ['few'] * 30)
    # a classifier that always says "many" is right in 91 % of the images, and worth nothing
    assert classifier_accuracy(features, names) < 0.65
    # these overlap; without equal weights nearly all of "few" would be taken for "many"
    features[names == 'few'] += 1.5
    assert classifier_accuracy(features, names) > 0.7


def recordings(count: int, frames: int, width: int = 40, seed: int = 0, shift: float = 0.0):
    """Two domains of recordings that have nothing in common but that; each has a place of its own, and frames nearly alike."""
    rng = np.random.default_rng(seed)
    names = np.repeat(np.array(['a', 'b'] * (count // 2)), frames)
    groups = np.repeat([f'r{index}' for index in range(count)], frames)
    rows = np.repeat(rng.normal(size=(count, width)) * 10, frames, 0) + rng.normal(size=(count * frames, width)) * 0.01
    rows[names == 'b'] += shift
    return rows, names, groups


def test_a_recording_is_never_on_both_sides():
    rows, names, groups = recordings(20, 6)
    assert classifier_accuracy(rows, names) > 0.9 > 0.75 > classifier_accuracy(rows, names, groups)
    table = gap_table(rows, names, groups, 'a', 19)
    assert table['unit'] == 'recordings'
    assert table['units'] == dict(a=10, b=10)
    assert max(table['accuracy'], table['pairs']['b']['accuracy']) < 0.75


@pytest.mark.slow
def test_recordings_of_one_distribution_are_not_taken_for_two_domains():
    """With frames as units every p would be the smallest there is."""
    tables = [gap_table(*recordings(20, 8, 5, seed), 'a', 99, seed) for seed in range(12)]
    ps = [table['pairs']['b']['p'] for table in tables]
    assert np.mean(np.array(ps) <= 0.05) <= 0.25
    assert 0.25 < np.mean(ps) < 0.75
    assert abs(np.mean([table['pairs']['b']['mmd2'] for table in tables])) < 0.05
    # and two that differ are told apart
    assert gap_table(*recordings(20, 8, 5, shift=15.0), 'a', 99)['pairs']['b']['p'] == 0.01


def test_the_mean_of_a_recording_stands_for_it():
    rows, names, groups = recordings(10, 3, 4)
    found, labels = independent_rows(rows, names, groups)
    expected = [rows[groups == f'r{i}'].mean(0) for i in range(10)]
    np.testing.assert_allclose(found, expected)
    assert labels.tolist() == ['a', 'b'] * 5
    same, names_too = independent_rows(rows, names, None)
    np.testing.assert_allclose(same, rows)
    assert names_too.tolist() == names.tolist()


def test_one_rule_and_one_kernel_for_all_rows():
    rows, names, groups = recordings(20, 6)
    # a third domain of one recording: now images count one by one, everywhere
    more = np.concatenate([rows, rows[:30] + 40]), [*names, *['c'] * 30], [*groups, *['r'] * 30]
    table = gap_table(*more, 'a', 19)
    assert table['unit'] == 'images'
    assert table['units'] == dict(a=60, b=60, c=30)
    gram = kernel(more[0])
    for name in 'bc':
        both = np.isin(more[1], ['a', name])
        expected = mmd_squared(gram[np.ix_(both, both)], np.array(more[1])[both] == 'a')
        assert table['pairs'][name]['mmd2'] == pytest.approx(expected, rel=1e-9)


def test_table_and_its_null_line():
    features = RNG.normal(size=(150, 5))
    domains = np.repeat(['day', 'fog', 'night'], 50)
    features[domains == 'night'] += 3
    table = gap_table(features, domains, domains, 'day', permutations=99)
    assert table['unit'] == 'images'
    assert list(table['pairs']) == ['fog', 'night']
    assert table['pairs']['night']['p'] == 0.01
    assert table['pairs']['night']['proxy_distance'] > 1.8
    null = table['null']
    assert null['mmd2_range'][0] < 0 < null['mmd2_range'][1] < table['pairs']['night']['mmd2'] / 5
    assert null['mmd2_range'][0] <= null['mmd2'] <= null['mmd2_range'][1]
    assert null['accuracy_range'][0] < 0.5 < null['accuracy_range'][1] < 0.8
    assert table['pairs']['fog']['mmd2'] < 2 * null['mmd2_range'][1]
    assert table['chance'] == 1 / 3
    assert gap_table(features, domains, domains, 'day', permutations=99) == table


def test_the_null_line_splits_recordings():
    rows, names, groups = recordings(24, 6, 5)
    table = gap_table(rows, names, groups, 'a', 19)
    # a classifier that had seen frames of the same recordings would be right
    assert table['null']['accuracy'] < 0.75
    few = gap_table(*recordings(14, 6, 5), 'a', 19)['null']
    # seven recordings have no two halves of five
    assert np.isnan(few['accuracy'])


def test_proxy_distance_runs_from_chance_to_certainty():
    assert [proxy_distance(value) for value in (0.3, 0.5, 0.75, 1.0)] == [0, 0, 1, 2]


def test_what_cannot_be_measured_is_refused():
    features, domains = RNG.normal(size=(16, 2)), np.repeat(['a', 'b'], [12, 4])
    with pytest.raises(ValueError, match=r"two domains of at least 5 images each, got \{'a': 12, 'b': 4\}"):
        gap_table(features, domains, domains, 'a')
    with pytest.raises(ValueError, match="'c' is none of the domains"):
        gap_table(features, domains, domains, 'c')
    with pytest.raises(ValueError, match="reference 'b' has 4 images; 10 are needed"):
        gap_table(features, domains, domains, 'b')
    with pytest.raises(ValueError, match='at least two images of each domain, got 1 and 1'):
        mmd_squared(kernel(features[:2]), np.array([True, False]))
    with pytest.raises(ValueError, match='at least four images, got 3'):
        embed(features[:3])
    with pytest.raises(ValueError, match='--per-domain must be 1 or more, got 0'):
        draw_images(['a'], 0)


def test_the_draw_is_fixed_and_even():
    domains = ['a'] * 30 + ['b'] * 5 + ['a'] * 10
    chosen = draw_images(domains, 8, seed=3)
    assert chosen == draw_images(domains, 8, seed=3) != draw_images(domains, 8, seed=4)
    assert [domains[i] for i in chosen].count('a') == 8
    assert [domains[i] for i in chosen].count('b') == 5
    assert chosen == sorted(set(chosen))


def test_all_equal_features_give_numbers():
    assert compare(np.ones((4, 2)), np.ones((5, 2)), 9) == (0.0, 1.0)


def test_picture(tmp_path):
    features, domains = RNG.normal(size=(40, 6)), np.repeat(['day', 'fog'], 20)
    points = embed(features)
    assert np.array_equal(points, embed(features))
    table = gap_table(features, domains, domains, 'day', permutations=9)
    names = ['one', 'two', 'three', 'four']
    draw_domains(dict.fromkeys(names, points), domains, dict.fromkeys(names, table), tmp_path / 'p.png')
    assert (tmp_path / 'p.png').stat().st_size > 20_000
