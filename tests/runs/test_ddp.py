"""Two gloo processes against one: find_unused_parameters=False, ranks identical, equal to the joined batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.runs.ddp_steps import VARIANTS, train

SCRIPT = Path(__file__).with_name('ddp_steps.py')
WORLD = 2


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """What each of the two ranks ended with, per variant."""
    folder = tmp_path_factory.mktemp('ddp')
    env = os.environ | {
        'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(SCRIPT.parents[2]), 'GLOO_SOCKET_IFNAME': 'lo',
    }  # fmt: skip
    processes = []
    for rank in range(WORLD):
        command = [sys.executable, SCRIPT, rank, WORLD, folder / 'init', folder / f'{rank}.pt']
        processes.append(subprocess.Popen([*map(str, command)], env=env, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * WORLD, '\n'.join(error[-2000:] for error in errors)
    return [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in range(WORLD)]


@pytest.mark.slow
@pytest.mark.parametrize('variant', VARIANTS)
def test_two_processes_end_identical_and_as_one_process_on_the_joined_batch(ranks, variant):
    first, second = (rank[variant] for rank in ranks)
    single = train(variant, WORLD)
    assert first['losses'] != second['losses'], 'the ranks saw different images'
    # with fuse none, W reaches the head through norms that start at zero, so part of it moves only after the first step
    assert first['still'] == single['still'] == []
    for name, value in single['state'].items():
        assert torch.equal(first['state'][name], second['state'][name]), name
        assert torch.allclose(first['state'][name], value, rtol=0, atol=1e-5), name
    means = [(a + b) / 2 for a, b in zip(first['losses'], second['losses'], strict=True)]
    assert means == pytest.approx(single['losses'], abs=1e-9)
