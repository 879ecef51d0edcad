"""BNConversionHook under DDP: two gloo processes end identical, and convert as one process does on the same batches."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from mmseg_dafm.daft import convert_bn
from mmseg_dafm.datasets.target_batches import build_target_loader
from tests.hooks.classifier import Classifier, Images
from tests.hooks.ranks import VARIANTS
from tests.processes import run_ranks

SCRIPT = Path(__file__).with_name('ranks.py')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What the two ranks have written."""
    folder = tmp_path_factory.mktemp('two')
    run_ranks(SCRIPT, folder, [folder])
    return folder


def one_process(estimator: str, sync: bool) -> dict[str, torch.Tensor]:
    """A model that is converted on both ranks' batches: the joined ones with SyncBN, else one after the other."""
    joined = [images for images, _ in build_target_loader(DataLoader(Images(jitter=0), batch_size=8), seed=0)]
    # the sampler deals the images out in turn
    batches = joined if sync else [images[rank::2] for images in joined for rank in range(2)]
    model = Classifier()
    convert_bn(model.net, batches, ['backbone'], estimator=estimator)
    return model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize('variant', VARIANTS)
def test_two_ranks_convert_as_one_process(folder, variant):
    first, second = (torch.load(folder / f'{variant}-{rank}.pt', weights_only=True) for rank in range(2))
    assert not torch.equal(first['seen'][0], second['seen'][0]), 'the ranks trained on different images'
    assert all(torch.equal(value, second['parameters'][name]) for name, value in first['parameters'].items())
    converted = torch.load(folder / variant / 'daft_converted.pth', weights_only=False)
    record = converted['meta']['daft_bn']
    options, sync = VARIANTS[variant]
    assert (record['world_size'], record['num_batches'], record['estimator']) == (2, 3, options.get('estimator', 'batch'))
    expected = one_process(record['estimator'], sync)
    assert converted['state_dict'].keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(converted['state_dict'][name], value, rtol=1e-5, atol=1e-6)


def test_the_variants_differ(folder):
    """Or the comparisons above would not tell them apart."""
    name = 'net.backbone.0.bn.running_var'
    values = [torch.load(folder / variant / 'daft_converted.pth', weights_only=False)['state_dict'][name] for variant in VARIANTS]
    assert all((one / other - 1).abs().max() > 1e-4 for one in values for other in values if one is not other)
