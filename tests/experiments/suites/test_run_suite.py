"""The command line of a suite, from the first call to the table, through kills and failures."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from argparse import Namespace

import pytest

from mmseg_dafm.experiments.tool_runs import ROOT, tool_command
from tests.experiments.suites.common import scores, tool, write_suite

RESULT = json.dumps(scores(fog=50.0))
# notes each call, waits for a file if it is asked to, fails if it is asked to
STEP = f"""
name, seed = sys.argv[2], sys.argv[3]
here = Path(__file__).parent
(here / 'calls').open('a').write(f'{{name}}{{seed}} ')
while name == 'slow' and not (here / 'go').exists():
    time.sleep(0.02)
if name == 'bad' and not (here / 'go').exists():
    sys.exit('error: a full disk')
(out / 'x.json').write_text({RESULT!r})
"""
TEXT = """
seeds = [0, 1]
_s = [TOOL, '{work_dir}']
runs = [
    dict(name='pre', command=[*_s, 'pre', '{seed}'], output='x.json', once=True, row=None),
    dict(name='slow', command=[*_s, 'slow', '{seed}', '{run:pre}'], output='x.json'),
    dict(name='bad', command=[*_s, 'bad', '{seed}'], output='x.json'),
    dict(name='late', command=[*_s, 'late', '{seed}', '{run:bad}'], output='x.json'),
]
columns = [dict(name='fog', value='fog/mIoU')]
"""


@pytest.fixture
def suite(tmp_path):
    return write_suite(tmp_path, TEXT.replace('TOOL', repr(tool(tmp_path, STEP))))


def command(root, suite, *arguments):
    return [sys.executable, str(root / 'tools/run_suite.py'), str(suite), '--out', str(suite.parent / 'out'), *arguments]


@pytest.fixture
def call(root, suite, monkeypatch, capsys):
    """Calls the tool in this process: exit message (None for success) and output."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', command(root, suite, *arguments)[1:])
        capsys.readouterr()
        try:
            runpy.run_path(str(root / 'tools/run_suite.py'), run_name='__main__')
        except SystemExit as stop:
            return stop.code, capsys.readouterr().out
        return None, capsys.readouterr().out

    return run


def calls(suite):
    path = suite.parent / 'calls'
    return path.read_text().split() if path.exists() else []


def until(condition):
    deadline = time.time() + 60
    while not condition():
        assert time.time() < deadline, 'took too long'
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_driver_two_drivers_a_failure_and_the_table(root, suite, call):
    first = subprocess.Popen(command(root, suite, '--only', 'slow', '--seeds', '0'), stdout=subprocess.DEVNULL)
    until(lambda: calls(suite) == ['pre0', 'slow0'])
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    # the program of the killed driver still runs, so the second and the third leave it alone and do the rest
    others = [
        subprocess.Popen(command(root, suite, '--only', 'slow', '--jobs', '2'), stdout=subprocess.DEVNULL) for _ in range(2)
    ]
    until(lambda: 'slow1' in calls(suite))
    time.sleep(0.5)
    assert sorted(calls(suite)) == ['pre0', 'slow0', 'slow1']
    (suite.parent / 'go').touch()
    assert [driver.wait(60) for driver in others] == [0, 0]
    # the first program's end was noted by nobody, so that cell ran once more, and once only
    assert sorted(calls(suite)) == ['pre0', 'slow0', 'slow0', 'slow1']
    (suite.parent / 'go').unlink()

    problem, output = call()
    errors = problem.splitlines()
    assert re.match(r'error: bad seed 0: .*tool.py stopped with exit code 1: error: a full disk \(all of it: ', errors[0])
    assert errors[1] == 'error: late seed 0: not started, because bad seed 0 failed'
    assert len(errors) == 4
    assert '4 runs are missing' in output
    assert '| slow | 50.00 ± 0.00 | 0, 1 |' in output
    assert '| bad | not run |  |' in output

    (suite.parent / 'go').touch()
    problem, output = call('--jobs', '2')
    assert problem is None
    assert '[4/4] ' in output
    assert '| late | **50.00 ± 0.00** | 0, 1 |' in (suite.parent / 'out/suite.md').read_text()
    assert (suite.parent / 'out/suite.tex').is_file()
    before = calls(suite)
    assert '0 runs are missing' in call()[1]
    assert calls(suite) == before


def test_a_column_that_does_not_fit_stops_no_run_and_is_told_at_the_end(suite, call):
    suite.write_text(suite.read_text().replace('fog/mIoU', 'fgo/mIoU'))
    (suite.parent / 'go').touch()
    problem, output = call('--seeds', '0')
    assert output.count('seed 0: done') == 4
    assert "suite.py: column 'fog': 'fgo/mIoU' is not in" in problem


def test_a_dry_run_prints_the_commands_in_order_and_runs_nothing(suite, call):
    lines = call('--dry-run', '--only', 'late', '--seeds', '7')[1].splitlines()
    assert [line.split()[-2:] for line in lines] == [['bad', '7'], ['7', str(suite.parent / 'out/bad_seed7')]]
    assert calls(suite) == []
    assert not (suite.parent / 'out').exists()
    slurm = call('--dry-run', '--only', 'late', '--seeds', '7', '--slurm')[1].splitlines()
    assert slurm[1].startswith("sbatch --parsable '--dependency=afterok:<job of bad seed 7>'")


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--jobs', '0'], '--jobs 0 and --gpus-per-run 1 must be 1 or more'),
        (['--gpus-per-run', '2'], '--gpus-per-run 2 needs --gpus'),
        (['--gpus', '0', '--gpus-per-run', '2'], '--gpus-per-run 2 is more than the 1 of --gpus'),
        (['--slurm', '--gpus-per-run', '-2'], '--jobs None and --gpus-per-run -2 must be 1 or more'),
        (['--seeds', '-1'], '--seeds -1: give different numbers, 0 or more'),
        (['--out', __file__], '--out .*test_run_suite.py is a file: name a folder'),
        (['--only', 'x'], "--only 'x': .*suite.py has no such run; use some of pre, slow, bad, late"),
    ],
)
def test_arguments_that_do_not_fit_end_at_once(call, arguments, words):
    problem, _ = call(*arguments)
    assert re.match(f'error: {words}', problem)
    assert '\n' not in problem


def test_gpus_are_shared_out_in_groups(root, capsys):
    places = runpy.run_path(str(root / 'tools/run_suite.py'))['places']
    assert places(Namespace(gpus=list('01234'), gpus_per_run=2, jobs=None, slurm=False)) == ['0,1', '2,3']
    assert places(Namespace(gpus=list('01'), gpus_per_run=1, jobs=3, slurm=False)) == ['0', '1', '0']
    assert places(Namespace(gpus=[], gpus_per_run=1, jobs=2, slurm=False)) == [None, None]
    # the fifth GPU of the first call, and nothing of the others
    assert capsys.readouterr().err == 'warning: --gpus-per-run 2 leaves GPU 4 of --gpus idle\n'


def test_a_suite_says_for_how_many_gpus_it_is_meant(suite, call, capsys):
    suite.write_text(suite.read_text() + 'gpus = 2\n')
    problem, _ = call('--dry-run')
    assert problem == 'error: --gpus-per-run 2 needs --gpus: name the GPUs to share out, or give another number'
    assert call('--dry-run', '--gpus', '0', '1', '--only', 'pre')[0] is None
    capsys.readouterr()
    sys.argv += ['--gpus-per-run', '1']
    runpy.run_path(sys.argv[0], run_name='__main__')
    warning = f'warning: --gpus-per-run 1: {suite} is meant for gpus=2, so the batch of a step has another size\n'
    assert capsys.readouterr().err == warning


def test_several_processes_of_a_run_go_through_torchrun():
    assert tool_command('train.py', ['c.py', '--launcher', 'pytorch'], 2)[1:6] == [
        '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
    ]  # fmt: skip
    assert tool_command('train.py', ['c.py'])[-2:] == [str(ROOT / 'tools/train.py'), 'c.py']
