"""Executing one cell: states on disk, the lock, and what is told of failures."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from mmseg_dafm.core.files import locked
from mmseg_dafm.experiments.suites import execute as execute_module
from mmseg_dafm.experiments.suites.execute import cell_state, execute
from mmseg_dafm.experiments.suites.plan import Cell
from mmseg_dafm.experiments.suites.suite_load import load_suite
from tests.experiments.suites.common import scores, tool, write_suite

WRITE = "(out / 'x.json').write_text('{}')\n"


def command_suite(tmp_path, text: str):
    path = tool(tmp_path, text)
    runs = f"runs = [dict(name='a', command=[{path!r}, '{{work_dir}}', '{{seed}}'], output='x.json')]\n"
    return load_suite(write_suite(tmp_path, runs + "columns = [dict(name='fog', value='fog')]\n"))


def test_a_command_runs_once_and_is_then_done(tmp_path):
    suite, cell = command_suite(tmp_path, "(out / 'calls').open('a').write(sys.argv[2])\n" + WRITE), Cell('a', 3)
    assert cell_state(suite, cell, tmp_path) == 'missing'
    assert execute(suite, cell, tmp_path)
    assert execute(suite, cell, tmp_path)
    folder = tmp_path / 'a_seed3'
    assert (folder / 'calls').read_text() == '3'
    done = json.loads((folder / 'done.json').read_text())
    assert (done['run'], done['seed'], done['output']) == ('a', 3, 'x.json')
    assert set(done) >= {'hash', 'minutes', 'commit'}


def test_devices_reach_the_program(tmp_path):
    suite = command_suite(tmp_path, "(out / 'x.json').write_text(json.dumps(os.environ['CUDA_VISIBLE_DEVICES']))\n")
    execute(suite, Cell('a', 0), tmp_path, devices='2,3')
    assert json.loads((tmp_path / 'a_seed0/x.json').read_text()) == '2,3'


def test_a_failure_tells_the_error_and_leaves_the_cell_to_be_run_again(tmp_path):
    suite = command_suite(tmp_path, "print('error: no images in data/x')\nprint('bye')\nsys.exit(3)\n")
    with pytest.raises(RuntimeError, match=r'tool.py stopped with exit code 3: error: no images in data/x \(all of it: .*stdout'):
        execute(suite, Cell('a', 0), tmp_path)
    assert cell_state(suite, Cell('a', 0), tmp_path) == 'started'


def test_a_program_without_output_is_a_failure(tmp_path):
    suite = command_suite(tmp_path, '')
    with pytest.raises(RuntimeError, match=r"suite.py: run 'a' has ended without .*x.json: correct the run's output"):
        execute(suite, Cell('a', 0), tmp_path)


def test_other_runs_in_the_folder_are_refused_and_kept(tmp_path):
    suite = command_suite(tmp_path, WRITE)
    execute(suite, Cell('a', 0), tmp_path)
    path = tmp_path / 'suite.py'
    path.write_text(path.read_text().replace("'{seed}'", "'{seed}', '--more'"))
    with pytest.raises(ValueError, match='a_seed0 holds a run with another config or other options: choose another --out'):
        execute(load_suite(path), Cell('a', 0), tmp_path)
    foreign = tmp_path / 'a_seed1'
    foreign.mkdir()
    torch.save({}, foreign / 'iter_10.pth')
    with pytest.raises(ValueError, match='a_seed1 holds checkpoints that no suite has written'):
        execute(suite, Cell('a', 1), tmp_path)


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """A suite of one config whose programs are noted and leave the files that they should."""
    suite = load_suite(
        write_suite(tmp_path, "runs = [dict(name='a', config=CONFIG)]\ncolumns = [dict(name='fog', value='fog')]\n")
    )
    calls = []

    def run_tool(name, arguments, log, variables, processes, keep):
        calls.append((name, processes))
        folder = log.parent
        (folder / 'iter_20.pth').touch() if name == 'train.py' else None
        if name == 'test.py':
            if len(calls) == 2:
                raise RuntimeError('test.py stopped')
            (folder / 'domain_iou_iter_20.json').write_text(json.dumps(scores(fog=1.0)))

    monkeypatch.setattr(execute_module, 'run_tool', run_tool)
    return suite, calls


def test_a_training_that_is_finished_is_not_repeated_for_its_test(trainings, tmp_path):
    suite, calls = trainings
    with pytest.raises(RuntimeError, match='test.py stopped'):
        execute(suite, Cell('a', 0), tmp_path, processes=2)
    assert cell_state(suite, Cell('a', 0), tmp_path) == 'trained'
    assert execute(suite, Cell('a', 0), tmp_path, processes=2)
    assert calls == [('train.py', 2), ('test.py', 2), ('test.py', 2)]
    done = json.loads((tmp_path / 'a_seed0/done.json').read_text())
    assert (done['checkpoint'], done['options']) == ('iter_20.pth', ['randomness.seed=0'])
    assert (done['processes'], done['batch_size']) == (2, 8)


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path):
    with locked(tmp_path) as first, locked(tmp_path) as second:
        assert first is not None
        assert second is None
    with locked(tmp_path) as again:
        assert again is not None


@pytest.mark.slow
def test_a_program_that_outlives_its_killed_driver_keeps_the_lock(tmp_path):
    # the program waits for a file, so the test decides when it ends
    wait = f'while not Path({str(tmp_path / "go")!r}).exists(): time.sleep(0.02)\n'
    suite = command_suite(tmp_path, "(out / 'calls').open('a').write('x')\n" + wait + WRITE)
    code = (
        'import sys; from pathlib import Path; from mmseg_dafm.experiments.suites.suite_load import load_suite;'
        'from mmseg_dafm.experiments.suites.execute import execute; from mmseg_dafm.experiments.suites.plan import Cell;'
        'execute(load_suite(sys.argv[1]), Cell("a", 0), Path(sys.argv[2]))'
    )
    driver = subprocess.Popen([sys.executable, '-c', code, suite.file, str(tmp_path)])
    calls = tmp_path / 'a_seed0/calls'
    try:
        deadline = time.time() + 60
        while not calls.exists() and time.time() < deadline:
            time.sleep(0.05)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    assert execute(suite, Cell('a', 0), tmp_path) is False
    assert calls.read_text() == 'x'
    (tmp_path / 'go').touch()
    while not execute(suite, Cell('a', 0), tmp_path):
        time.sleep(0.05)
    # the driver died before it could note the end, so the cell ran again
    assert calls.read_text() == 'xx'
    assert cell_state(suite, Cell('a', 0), tmp_path) == 'done'


def test_a_number_of_threads_that_the_user_sets_is_kept(tmp_path, monkeypatch):
    suite = command_suite(tmp_path, "(out / 'x.json').write_text(json.dumps(os.environ['OMP_NUM_THREADS']))\n")
    for given, wanted in (('3', '3'), (None, '1')):
        monkeypatch.setenv('OMP_NUM_THREADS', given) if given else monkeypatch.delenv('OMP_NUM_THREADS')
        execute(suite, Cell('a', int(wanted)), tmp_path)
        assert json.loads((tmp_path / f'a_seed{wanted}/x.json').read_text()) == wanted


@pytest.mark.parametrize(('name', 'text'), [('done.json', '{"run": '), ('started.json', ''), ('done.json', '[]')])
def test_a_broken_record_is_named(tmp_path, name, text):
    suite = command_suite(tmp_path, WRITE)
    (tmp_path / 'a_seed0').mkdir()
    (tmp_path / 'a_seed0' / name).write_text(text)
    with pytest.raises(ValueError, match=f'a_seed0/{name} (is no JSON|must hold a dict, got ).*: remove it, and what it'):
        execute(suite, Cell('a', 0), tmp_path)
