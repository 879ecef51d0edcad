"""The tool that writes a table, and folders by hand on its command line."""

import json
import re
import runpy
import sys

import pytest

from mmseg_dafm.experiments.suites.run_config import run_hash
from mmseg_dafm.experiments.suites.suite_load import load_suite
from tests.experiments.suites.common import write_scores, write_suite

TEXT = "seeds = [0]\nruns = [dict(name='a', config=CONFIG)]\ncolumns = [dict(name='fog', value='fog/mIoU')]\n"


@pytest.fixture
def call(tmp_path, root, monkeypatch, capsys):
    """Calls the tool in this process: exit message (None for success), output and warnings."""
    suite = write_suite(tmp_path, TEXT)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['make_table.py', str(suite), '--out', str(tmp_path / 'out'), *map(str, arguments)])
        capsys.readouterr()
        try:
            runpy.run_path(str(root / 'tools/make_table.py'), run_name='__main__')
        except SystemExit as stop:
            return stop.code, *capsys.readouterr()
        return None, *capsys.readouterr()

    return run


def recorded(folder, **record):
    write_scores(folder, fog=50.0)
    (folder / 'done.json').write_text(json.dumps(dict(seed=0, commit='abc', **record)))
    return folder


def test_a_folder_of_another_run_or_config_is_told(call, tmp_path):
    suite = load_suite(tmp_path / 'suite.py')
    right = recorded(tmp_path / 'right', run='a', hash=run_hash(suite, suite.run('a')))
    problem, output, warnings = call('--run', f'a={right}')
    assert (problem, warnings) == (None, '')
    assert '| a | 50.00 | 0 |' in output
    assert 'commit: abc' in output
    other = recorded(tmp_path / 'other', run='b', hash='x')
    assert call('--run', f'a={other}')[2] == f"warning: --run a={other}: its done.json is of the run 'b'\n"
    changed = recorded(tmp_path / 'changed', run='a', hash='x')
    assert (
        call('--run', f'a={changed}')[2] == f'warning: --run a={changed}: its done.json is of another config or other options\n'
    )
    assert call('--run', f'a={right}', '--run', f'a={changed}')[0] == (
        f'error: --run a: {right} and {changed} both hold seed 0: leave one out'
    )


def test_arguments_that_do_not_fit_are_refused_and_nothing_is_made(call, tmp_path):
    folder = write_scores(tmp_path / 'x', fog=1.0)
    for arguments, words in (
        ((), '--out .*out does not exist, so nothing was run there'),
        (('--out', tmp_path / 'suite.py'), '--out .*suite.py is a file: name a folder'),
        (('--seeds', '-1'), '--seeds -1: give different numbers, 0 or more'),
        (('--run', 'a'), '.*NAME=FOLDER'),
        (('--run', f'a={folder}', '--run', f'a={folder}/.'), r'--run a=.*/\. names the folder of --run a=.*x again'),
    ):
        assert re.match(f'error: {words}', call(*arguments)[0])
        assert not (tmp_path / 'out').exists()
