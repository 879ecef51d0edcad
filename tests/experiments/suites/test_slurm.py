"""Jobs for slurm, with programs of its names that note how they are called."""

import json
import os
import runpy
import shlex
import stat
import sys

import pytest

from mmseg_dafm.experiments.suites.plan import Cell, plan
from mmseg_dafm.experiments.suites.slurm import Slurm, script, submit, submit_table
from mmseg_dafm.experiments.suites.suite_load import load_suite
from mmseg_dafm.experiments.tool_runs import ROOT
from tests.experiments.suites.common import write_suite

TEXT = """
seeds = [0, 1]
runs = [
    dict(name='lp', config=CONFIG),
    dict(name='lp_ft', config=CONFIG, options=['load_from={checkpoint:lp}']),
]
columns = [dict(name='fog', value='fog/mIoU')]
"""
SBATCH = """#!/bin/sh
echo "$@" >> "$SLURM_LOG"
echo "$(wc -l < "$SLURM_LOG");cluster"
"""
SQUEUE = """#!/bin/sh
case " $SLURM_ALIVE " in *" $3 "*) echo "$3 RUNNING";; *) echo 'Invalid job id' >&2; exit 1;; esac
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    programs = tmp_path / 'bin'
    programs.mkdir()
    for name, text in (('sbatch', SBATCH), ('squeue', SQUEUE)):
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv('PATH', f'{programs}:{os.environ["PATH"]}')
    monkeypatch.setenv('SLURM_LOG', str(tmp_path / 'log'))
    monkeypatch.setenv('SLURM_ALIVE', '')
    return tmp_path / 'log'


@pytest.fixture
def suite(tmp_path):
    return load_suite(write_suite(tmp_path, TEXT))


def test_every_cell_is_a_job_after_those_that_it_needs(suite, cluster, tmp_path):
    out = tmp_path / 'out'
    jobs = submit(suite, plan(suite), out, Slurm())
    assert jobs == {('lp', 0): '1', ('lp_ft', 0): '2', ('lp', 1): '3', ('lp_ft', 1): '4'}
    lines = cluster.read_text().splitlines()
    assert lines[0] == f'--parsable {out}/lp_seed0/slurm.sh'
    assert lines[3] == f'--parsable --dependency=afterok:3 --kill-on-invalid-dep=yes {out}/lp_ft_seed1/slurm.sh'
    assert json.loads((out / 'lp_ft_seed1/slurm.json').read_text()) == {'job': '4'}


def test_what_is_queued_is_not_submitted_twice_and_what_has_gone_is(suite, cluster, tmp_path, monkeypatch):
    submit(suite, plan(suite, seeds=[0]), tmp_path, Slurm())
    monkeypatch.setenv('SLURM_ALIVE', '1')
    assert submit(suite, plan(suite, seeds=[0]), tmp_path, Slurm()) == {('lp', 0): '1', ('lp_ft', 0): '3'}
    assert '--dependency=afterok:1 ' in cluster.read_text().splitlines()[2]


def test_the_script_calls_the_suite_for_one_cell(suite, tmp_path):
    text = script(suite, Cell('lp_ft', 1), tmp_path / 'o ut', Slurm('gpu', ['--time=1:00:00'], 4))
    for line in ('--partition=gpu', '--gres=gpu:4', '--time=1:00:00', '--job-name=lp_ft_1'):
        assert f'#SBATCH {line}\n' in text
    place, last = text.splitlines()[-2:]
    # configs and folders are named relative to the project
    assert place == f'cd {shlex.quote(str(ROOT))} || exit 1'
    assert f"#SBATCH '--output={tmp_path}/o ut/lp_ft_seed1/slurm-%j.txt'\n" in text
    assert last.startswith('exec ')
    tail = f"{suite.file} --out '{tmp_path}/o ut' --only lp_ft --seeds 1 --no-table"
    assert last.endswith(f'run_suite.py {tail} --gpus-per-run 4 --gpus ${{CUDA_VISIBLE_DEVICES//,/ }}')
    cpu = script(suite, Cell('lp', 0), tmp_path / 'out', Slurm(gpus=0))
    assert 'gpu' not in cpu.split('exec')[0]
    # not the suite's number of GPUs
    assert cpu.endswith(' --no-table --gpus-per-run 1\n')


def test_options_of_sbatch_keep_their_values_and_quotes(suite, tmp_path):
    args = shlex.split("--time 1:00:00 -A acct --comment='two words'")
    text = script(suite, Cell('lp', 0), tmp_path, Slurm(args=args))
    lines = [shlex.split(line)[1:] for line in text.splitlines() if line.startswith('#SBATCH')]
    assert lines[-1] == ['--time', '1:00:00', '-A', 'acct', '--comment=two words']
    assert '#SBATCH \n' not in script(suite, Cell('lp', 0), tmp_path, Slurm())


def test_the_table_is_written_after_all_jobs_even_failed_ones(suite, cluster, tmp_path):
    assert submit_table(suite, ['4', '7'], tmp_path, Slurm('gpu', ['-A', 'acct'], 4), [1, 2]) == '1'
    assert cluster.read_text() == f'--parsable --dependency=afterany:4:7 {tmp_path}/slurm_table.sh\n'
    text = (tmp_path / 'slurm_table.sh').read_text()
    assert '#SBATCH --partition=gpu\n' in text
    assert '#SBATCH -A acct\n' in text
    assert '--gres' not in text
    assert text.endswith(f'make_table.py {suite.file} --out {tmp_path} --seeds 1 2\n')


def test_the_tool_submits_runs_and_table(suite, cluster, tmp_path, root, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['run_suite.py', suite.file, '--out', str(tmp_path / 'out'), '--slurm', '--seeds', '1'])
    runpy.run_path(str(root / 'tools/run_suite.py'), run_name='__main__')
    assert capsys.readouterr().out.endswith('lp seed 1: job 1\nlp_ft seed 1: job 2\ntable: job 3\n')
    assert cluster.read_text().splitlines()[2] == f'--parsable --dependency=afterany:1:2 {tmp_path}/out/slurm_table.sh'


def test_a_cluster_that_is_not_there_or_refuses_is_told(suite, cluster, tmp_path, monkeypatch):
    (cluster.parent / 'bin/sbatch').write_text('#!/bin/sh\necho "invalid partition" >&2; exit 1\n')
    with pytest.raises(RuntimeError, match='sbatch refused .*lp_seed0/slurm.sh: invalid partition'):
        submit(suite, plan(suite), tmp_path, Slurm())
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(RuntimeError, match='--slurm needs sbatch, which is not on PATH'):
        submit(suite, plan(suite), tmp_path, Slurm())
