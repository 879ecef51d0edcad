"""The shell scripts hand every argument on: `torchrun` and `srun` are replaced by a program that records its call."""

import os
import socket
import subprocess

import pytest


@pytest.fixture
def launch(root, tmp_path):
    """Run a script; return the words with which it called its launcher, and PYTHONPATH."""
    for name in ('torchrun', 'srun'):
        program = tmp_path / name
        program.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$PYTHONPATH" "$@"\n')
        program.chmod(0o755)

    def run(script, *arguments, **environment):
        inherited = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
        inherited |= {'PATH': f'{tmp_path}:{os.environ["PATH"]}'} | environment
        command = [root / 'tools' / script, *arguments]
        return subprocess.run(command, env=inherited, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    ('script', 'arguments', 'expected'),
    [
        ('dist_train.sh', ['a b.py', '4'], ['train.py', 'a b.py', '--launcher', 'pytorch']),
        ('dist_test.sh', ['a.py', 'b.pth', '4'], ['test.py', 'a.py', 'b.pth', '--launcher', 'pytorch']),
        ('slurm_train.sh', ['part', 'job', 'a.py'], ['train.py', 'a.py', '--launcher', 'slurm']),
        ('slurm_test.sh', ['part', 'job', 'a.py', 'b.pth'], ['test.py', 'a.py', 'b.pth', '--launcher', 'slurm']),
    ],
)
def test_arguments_reach_the_tool(root, launch, script, arguments, expected):
    result = launch(script, *arguments, '--cfg-options', 'x=[1, 2]')
    words = result.stdout.splitlines()
    assert result.returncode == 0, result.stderr
    assert words[0] == str(root)
    tool = words.index(str(root / 'tools' / expected[0]))
    assert words[tool + 1 :] == [*expected[1:], '--cfg-options', 'x=[1, 2]']


def test_several_machines_and_gpus(launch):
    words = launch('dist_train.sh', 'a.py', '8', NNODES='2', NODE_RANK='1', MASTER_ADDR='host', PORT='1').stdout.split('\n')
    assert {'--nnodes=2', '--node_rank=1', '--nproc_per_node=8', '--master_addr=host', '--master_port=1'} <= set(words)
    words = launch('slurm_train.sh', 'p', 'j', 'a.py', GPUS='16', GPUS_PER_NODE='4', SRUN_ARGS='--qos high').stdout.split('\n')
    assert {'--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4', '--qos', 'high'} <= set(words)


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_too_few_arguments_print_the_usage(launch, script):
    result = launch(script, 'a.py')
    assert result.returncode == 2
    assert result.stderr.startswith('usage: ')


@pytest.mark.parametrize(('script', 'arguments'), [('dist_train.sh', ['a.py', '2']), ('dist_test.sh', ['a.py', 'b.pth', '2'])])
def test_a_port_in_use_is_one_sentence(launch, script, arguments):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = launch(script, *arguments, PORT=port)
    assert result.returncode == 1
    assert result.stdout == ''
    assert result.stderr.startswith(f'error: port {port} is in use')
    assert 'PORT=29501' in result.stderr
