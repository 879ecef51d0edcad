"""Reading results: batch sizes in the protocol, folders trained by hand, and files that hold none."""

import json

import pytest

from mmseg_dafm.experiments.suites.results import read_folder, read_folders, read_results, stamp
from mmseg_dafm.experiments.suites.run_config import run_hash
from mmseg_dafm.experiments.suites.suite_load import load_suite
from mmseg_dafm.experiments.suites.write import write_tables
from tests.experiments.suites.common import write_scores, write_suite

TEXT = """
seeds = [0, 1]
runs = [dict(name='a', config=CONFIG), dict(name='b', config=CONFIG)]
columns = [dict(name='fog', value='fog/mIoU')]
"""


@pytest.fixture
def suite(tmp_path):
    return load_suite(write_suite(tmp_path, TEXT))


def finished(suite, out, name, seed=0, **record):
    """A run that a suite has finished."""
    folder = write_scores(out / f'{name}_seed{seed}', fog=50.0)
    record = dict(run=name, seed=seed, hash=run_hash(suite, suite.run(name)), commit='abc', **record)
    (folder / 'done.json').write_text(json.dumps(record))
    return folder


def results_of(suite, out):
    return {run.name: read_results(suite, run, out)[0] for run in suite.runs}


def test_rows_that_were_trained_on_other_numbers_of_gpus_are_told(suite, tmp_path):
    finished(suite, tmp_path, 'a', processes=1, batch_size=4)
    finished(suite, tmp_path, 'b', processes=1, batch_size=4)
    lines = stamp(suite, results_of(suite, tmp_path))
    assert lines[0].startswith('Protocol: ')
    assert lines[0].endswith(', processes 1, batch_size 4')
    finished(suite, tmp_path, 'b', processes=4, batch_size=16)
    warning = 'WARNING, ROWS DIFFER IN PROTOCOL and cannot be compared: '
    assert stamp(suite, results_of(suite, tmp_path))[:2] == [
        f'{warning}processes 1 (a); 4 (b)',
        f'{warning}batch_size 4 (a); 16 (b)',
    ]
    # of a run by hand nobody knows
    finished(suite, tmp_path, 'b')
    assert stamp(suite, results_of(suite, tmp_path))[0].endswith(', processes 1, batch_size 4')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (None, 'does not exist'),
        ('null', 'must hold a dict or a list, got None'),
        ('{"summary": null}', 'holds no summary with domains'),
        ('{"summary": {"domains": {}}}', 'holds no classes'),
        ('{"summ', 'is no JSON'),
    ],
)
def test_a_result_that_cannot_be_read_is_told_and_the_others_are_written(suite, tmp_path, text, words):
    finished(suite, tmp_path, 'a')
    file = finished(suite, tmp_path, 'a', seed=1) / 'domain_iou_iter_20.json'
    file.write_text(text) if text else file.unlink()
    lines = write_tables(suite, tmp_path).splitlines()
    assert next(line for line in lines if line.startswith('| a ')) == '| a | 50.00 | 0 |'
    told = [line for line in lines if 'WARNING' in line]
    assert len(told) == 1
    assert f'not in the table: {file} {words}' in told[0]


def test_a_folder_by_hand_has_the_seed_and_commit_of_its_record_and_may_hold_a_best_checkpoint(suite, tmp_path):
    folder = finished(suite, tmp_path, 'a', seed=3, processes=2, batch_size=8)
    result = read_folder(folder, 'x')
    assert (result.label, result.commit, result.protocol['batch_size']) == ('3', 'abc', 8)
    other = finished(suite, tmp_path, 'b', seed=3)
    assert [one.label for one in read_folders([folder, other], 'x')] == [str(folder), str(other)]
    best = write_scores(tmp_path / 'best', 'domain_iou_best_mIoU_iter_10.json', fog=1.0)
    assert read_folder(best, 'x').values['fog']['mIoU'] == 1.0
    write_scores(best, 'domain_iou_iter_10.json', fog=2.0)
    assert read_folder(best, 'x').values['fog']['mIoU'] == 2.0
    write_scores(best, 'domain_iou_best_mIoU_iter_15.json', fog=3.0)
    assert read_folder(best, 'x').values['fog']['mIoU'] == 3.0
