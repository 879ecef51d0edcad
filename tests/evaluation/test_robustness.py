"""Means of scores under corruption, against sums written out by hand, and the tables made of them."""

import csv
import io
import math
import re

import pytest

from mmseg_dafm.analysis.robustness import draw_robustness
from mmseg_dafm.datasets.corruptions import CORRUPTIONS, GROUPS, SEVERITIES
from mmseg_dafm.evaluation import robustness

FULL = {(name, severity): 60.0 - index - 7 * severity for index, name in enumerate(CORRUPTIONS) for severity in SEVERITIES}


def test_means_of_the_full_set():
    found = robustness.summarise(80.0, FULL)
    # noise: severities 1 to 3, mean 2; the others: 1 to 5, mean 3
    means = {name: 60.0 - index - 7 * (2 if index < 4 else 3) for index, name in enumerate(CORRUPTIONS)}
    assert {name: row['mean'] for name, row in found['corruptions'].items()} == means
    assert {name: row['counted'] for name, row in found['corruptions'].items()} == {
        name: 3 if name.endswith('noise') else 5 for name in CORRUPTIONS
    }
    assert found['groups'] == {group: round(sum(means[name] for name in names) / 4, 2) for group, names in GROUPS.items()}
    mpc = sum(means.values()) / 16
    assert found['mPC'] == round(mpc, 2)
    assert found['rPC'] == round(100 * mpc / 80, 2)
    assert found['mean_error'] == round(100 - mpc, 2)
    assert found['corruptions']['shot_noise']['severities'][5] == FULL['shot_noise', 5]


def test_strong_noise_changes_no_mean_and_corruptions_count_equally():
    changed = {key: value - (30 if robustness.group_of(key[0]) == 'noise' and key[1] > 3 else 0) for key, value in FULL.items()}
    assert changed != FULL
    means = [robustness.summarise(80.0, scores)[key] for scores in (FULL, changed) for key in ('mPC', 'rPC', 'mean_error')]
    assert means[:3] == means[3:]
    # one severity of fog, two of snow: their corruptions have the same weight
    found = robustness.summarise(50.0, {('fog', 2): 10.0, ('snow', 1): 20.0, ('snow', 4): 40.0})
    assert (found['mPC'], found['rPC'], found['groups']) == (20.0, 40.0, {'weather': 20.0})
    assert list(found['corruptions']) == ['snow', 'fog']


def test_what_does_not_count_leaves_no_mean():
    found = robustness.summarise(80.0, {('gaussian_noise', 4): 5.0})
    assert math.isnan(found['mPC'])
    assert math.isnan(found['corruptions']['gaussian_noise']['mean'])
    assert found['groups'] == {}
    found = robustness.summarise(80.0, {('gaussian_noise', 4): 5.0, ('fog', 1): 30.0})
    assert found['mPC'] == 30.0
    assert math.isnan(robustness.summarise(80.0, {('fog', 1): float('nan'), ('fog', 2): 3.0})['mPC'])
    assert math.isnan(robustness.summarise(0.0, FULL)['rPC'])


def test_bad_scores_are_refused():
    with pytest.raises(ValueError, match=r"summarise needs scores of gaussian_noise, .*; got \['mist'\]"):
        robustness.summarise(80.0, {('mist', 1): 3.0})
    with pytest.raises(ValueError, match='got none'):
        robustness.summarise(80.0, {})
    with pytest.raises(ValueError, match=r'severities must lie between 1 and 5, got \[0, 3\]'):
        robustness.select_severities([0, 3])
    with pytest.raises(ValueError, match=r'got \[\]'):
        robustness.select_severities([])
    assert robustness.select_severities([3, 1, 3]) == (1, 3)


def test_scores_are_found_whatever_the_metric():
    assert robustness.domain_scores({'aAcc': 90.0, 'mIoU': 41.5, 'mAcc': 50.0}) == {'all': 41.5}
    metrics = {'mIoU': 41.5, 'mIoU.day': 50.0, 'mIoU.mean': 30.0, 'mIoU.target': 30.0, 'mIoU%': 60.0}
    assert robustness.domain_scores(metrics) == {'all': 41.5, 'day': 50.0, 'target': 30.0}
    prefixed = robustness.domain_scores({f'seg/{name}': value for name, value in metrics.items()})
    assert list(prefixed.items()) == [('all', 41.5), ('day', 50.0), ('target', 30.0)]
    with pytest.raises(ValueError, match=r"test_evaluator gave \['mDice'\], and no mIoU"):
        robustness.domain_scores({'mDice': 3.0})


def two_domains():
    scores = {key: {'all': value, 'day': value + 5} for key, value in FULL.items()}
    return robustness.by_domain({'all': 80.0, 'day': 85.0}, scores)


def test_domains_are_summarised_apart():
    found = two_domains()
    assert found['all'] == robustness.summarise(80.0, FULL)
    assert found['day']['mPC'] == pytest.approx(found['all']['mPC'] + 5)


def test_csv_holds_every_score():
    lines = list(csv.DictReader(io.StringIO(robustness.to_csv(two_domains()))))
    assert len(lines) == 81
    assert lines[0] == {'corruption': 'clean', 'group': '', 'severity': '0', 'counts': '', 'mIoU': '80.0', 'mIoU.day': '85.0'}
    read = {(line['corruption'], int(line['severity'])): float(line['mIoU']) for line in lines[1:]}
    assert read == FULL
    counted = [line for line in lines[1:] if line['counts'] == '1']
    assert len(counted) == 4 * 3 + 12 * 5
    nan = robustness.by_domain({'all': 80.0}, {('fog', 1): {'all': float('nan')}})
    assert robustness.to_csv(nan).splitlines()[-1] == 'fog,weather,1,1,'


def test_markdown_states_the_set_and_marks_what_does_not_count():
    text = robustness.to_markdown(two_domains(), {'seed': 0})
    assert 'all 16 corruptions of the segmentation set, severities 1, 2, 3, 4, 5; of the noises only severities up to 3' in text
    assert 'not normalised by AlexNet' in text
    row = next(line for line in text.splitlines() if line.startswith('| shot_noise'))
    assert row == '| shot_noise | noise | 52.00 | 45.00 | 38.00 | (31.00) | (24.00) | 45.00 |'
    assert re.search(r'^\| day \| 85.00 \|', text, re.MULTILINE)
    widths = [{line.count('|') for line in block.splitlines()} for block in text.split('\n\n') if block.startswith('|')]
    assert all(len(width) == 1 for width in widths)
    part = robustness.describe_set(robustness.summarise(80.0, {('fog', 2): 3.0}))
    assert part.startswith('Means over only fog, severities 2.')


def test_pictures_of_whole_and_partial_sets(tmp_path):
    draw_robustness(robustness.summarise(80.0, FULL), tmp_path / 'full.png', 'model')
    draw_robustness(robustness.summarise(80.0, {('gaussian_noise', 4): 5.0}), tmp_path / 'part.png')
    sizes = [len((tmp_path / name).read_bytes()) for name in ('full.png', 'part.png')]
    assert sizes[0] > sizes[1] > 5000
    assert sorted(path.name for path in tmp_path.iterdir()) == ['full.png', 'part.png']
