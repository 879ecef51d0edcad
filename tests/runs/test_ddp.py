"""Two gloo processes against one: find_unused_parameters=False, ranks identical, equal to the joined batch."""

from pathlib import Path

import pytest
import torch

from tests.processes import run_ranks
from tests.runs.ddp_steps import VARIANTS, train

SCRIPT = Path(__file__).with_name('ddp_steps.py')
WORLD = 2


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """What each of the two ranks ended with, per variant."""
    folder = tmp_path_factory.mktemp('ddp')
    run_ranks(SCRIPT, folder, [folder / '{rank}.pt'])
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
