"""The table of FisherTune's street experiment."""

from mmseg_dafm.evaluation.fisher_table import to_markdown


def test_means_spreads_and_what_was_not_run():
    runs = [dict(method='rank', seed=seed, commit='abc', day=50.0 + seed, dusk=30.0 + 2 * seed, cities=40.0) for seed in (1, 0)]
    runs += [dict(method='freeze', seed=seed, commit='abc', day=1.0, dusk=20.0 + 2 * seed, cities=40.0) for seed in (0, 1)]
    lines = to_markdown(('freeze', 'rank', 'full'), runs).splitlines()
    assert lines[3] == '| DRF (rank) | 50.5 ± 0.7 | 31.0 ± 1.4 | 40.0 ± 0.0 | 35.5 ± 0.7 | +5.0 ± 0.0 | 0, 1 | abc |'
    assert lines[4].startswith('| Full | not run |')
    assert len({line.count('|') for line in lines}) == 1
