"""Two gloo processes against one process on the same data."""

from pathlib import Path

import pytest
import torch

from mmseg_dafm.daft import convert_bn
from tests.daft.ranks import VARIANTS, network, share
from tests.processes import run_ranks

SCRIPT = Path(__file__).with_name('ranks.py')


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """What each of the two ranks ended with, per variant."""
    folder = tmp_path_factory.mktemp('ranks')
    run_ranks(SCRIPT, folder, [folder / '{rank}.pt'])
    return [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize('variant', VARIANTS)
def test_ranks_end_identical_and_as_one_process_on_all_data(ranks, variant):
    first, second = (rank[variant] for rank in ranks)
    assert all(torch.equal(value, second['state'][key]) for key, value in first['state'].items())
    assert first['report'] == second['report']
    estimator, sync = VARIANTS[variant]
    # plain layers normalise each rank's batch, SyncBN the joined one
    pairs = list(zip(share(0), share(1), strict=True))
    together = [torch.cat(pair) for pair in pairs] if sync else [batch for pair in pairs for batch in pair]
    model = network(sync)
    convert_bn(model, together, estimator=estimator)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(first['state'][key], value, rtol=1e-9, atol=1e-11)


def test_the_batch_estimator_sees_the_sync_scope(ranks):
    plain, synced = (ranks[0][name]['state']['backbone.0.bn.running_var'] for name in ('batch', 'batch-SyncBN'))
    assert (synced > plain).all(), 'the joined batch also varies between ranks'
    assert (synced / plain).max() > 1.05


def test_ranks_with_unequal_numbers_of_batches_are_refused(ranks):
    assert all('the ranks have 2 to 3 batches' in rank['unequal'] for rank in ranks)


@pytest.mark.parametrize('layers', ['plain', 'SyncBN'])
def test_loaders_without_a_length_are_refused_as_well_if_unequal_and_serve_if_equal(ranks, layers):
    for rank in ranks:
        for kind in ('no length', 'one with length'):
            assert 'some ranks have 2 batches and others more: give all the same' in rank[f'unequal, {kind}, {layers}']
    variant = 'batch' if layers == 'plain' else 'batch-SyncBN'
    for rank in ranks:
        found, expected = rank[f'no length, {layers}'], rank[variant]
        assert found['report'] == expected['report']
        assert all(torch.equal(value, expected['state'][key]) for key, value in found['state'].items())


def test_only_the_batches_that_are_taken_count(ranks):
    assert [rank['limited'] for rank in ranks] == [2, 2]
