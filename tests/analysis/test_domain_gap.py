"""MMD and domain classifier against slow references and against what is known of equal and of distant domains."""

import numpy as np
import pytest

from mmseg_dafm.analysis.domain_features import draw_images
from mmseg_dafm.analysis.domain_gap import classifier_accuracy, gap_table, kernel, mmd_squared, mmd_test, proxy_distance
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


def test_mmd_does_not_depend_on_the_scale_of_the_features():
    x, y = two(0.5)
    assert mmd_test(x, y, 5)[0] == pytest.approx(mmd_test(1e4 * x + 3, 1e4 * y + 3, 5)[0], rel=1e-6)


def test_equal_distributions_give_mmd_around_zero_and_uniform_p():
    values, ps = zip(*(mmd_test(*two(0, seed=seed), permutations=99, seed=seed) for seed in range(40)), strict=True)
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 0.005
    assert 0.3 < np.mean(ps) < 0.7
    assert 0 <= np.mean(np.array(ps) <= 0.1) <= 0.3


def test_distant_domains_are_found():
    x, y = two(1.0)
    value, p = mmd_test(x, y, 199)
    assert value > 0.1
    assert p == 1 / 200
    assert mmd_test(*two(2.0), 10)[0] > value


def test_classifier_is_at_chance_for_equal_domains_and_right_for_distant_ones():
    names = np.repeat(['a', 'b', 'c'], 60)
    features = RNG.normal(size=(180, 4))
    chance, folds = classifier_accuracy(features, names)
    assert abs(chance - 1 / 3) < 0.12
    assert folds == 'images'
    features[names == 'b'] += 5
    features[names == 'c'] -= 5
    assert classifier_accuracy(features, names)[0] > 0.97


def test_accuracy_is_balanced():
    features, names = RNG.normal(size=(110, 3)), np.array(['many'] * 100 + ['few'] * 10)
    # a classifier that always says "many" is right in 91 % of the images, and worth nothing
    assert classifier_accuracy(features, names)[0] < 0.8


def test_a_recording_is_never_on_both_sides():
    """Within a domain each recording has features of its own, and the domains have nothing in common but that."""
    rng = np.random.default_rng(0)
    names, recordings, rows = [], [], []
    for index in range(20):
        place = rng.normal(size=40) * 10
        names += ['ab'[index % 2]] * 6
        recordings += [f'r{index}'] * 6
        rows += [place + rng.normal(size=40) * 0.01 for _ in range(6)]
    rows = np.array(rows)
    by_recording, folds = classifier_accuracy(rows, names, recordings)
    assert folds == 'recordings'
    by_image, _ = classifier_accuracy(rows, names)
    assert by_image > 0.9 > 0.75 > by_recording


def test_table_and_its_null_line():
    features = RNG.normal(size=(150, 5))
    domains = np.repeat(['day', 'fog', 'night'], 50)
    features[domains == 'night'] += 3
    table = gap_table(features, domains, domains, 'day', permutations=99)
    assert list(table['pairs']) == ['fog', 'night']
    assert table['pairs']['night']['p'] == 0.01
    assert table['pairs']['night']['proxy_distance'] > 1.8
    assert abs(table['pairs']['fog']['mmd2']) < 0.05 < table['pairs']['night']['mmd2']
    assert abs(table['null']['mmd2']) < 0.05
    assert table['null']['accuracy'] < 0.75
    assert table['chance'] == 1 / 3
    assert gap_table(features, domains, domains, 'day', permutations=99) == table


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
        mmd_test(features[:1], features[1:2])
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
    assert mmd_test(np.ones((4, 2)), np.ones((5, 2)), 9) == (0.0, 1.0)


def test_picture(tmp_path):
    features, domains = RNG.normal(size=(40, 6)), np.repeat(['day', 'fog'], 20)
    points = embed(features)
    assert np.array_equal(points, embed(features))
    table = gap_table(features, domains, domains, 'day', permutations=9)
    names = ['one', 'two', 'three', 'four']
    draw_domains(dict.fromkeys(names, points), domains, dict.fromkeys(names, table), tmp_path / 'p.png')
    assert (tmp_path / 'p.png').stat().st_size > 20_000
