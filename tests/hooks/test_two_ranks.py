"""BNConversionHook under DDP: two gloo processes end identical, and convert as one process does on all images."""

from pathlib import Path

import torch

from tests.hooks.classifier import Images, runner
from tests.hooks.ranks import HOOK
from tests.processes import run_ranks

SCRIPT = Path(__file__).with_name('ranks.py')


def test_two_ranks_convert_as_one_process(tmp_path):
    folder = tmp_path / 'two'
    folder.mkdir()
    run_ranks(SCRIPT, tmp_path, [folder])
    first, second = (torch.load(folder / f'rank{rank}.pt', weights_only=True) for rank in range(2))
    assert not torch.equal(first['seen'][0], second['seen'][0]), 'the ranks trained on different images'
    assert all(torch.equal(value, second['parameters'][name]) for name, value in first['parameters'].items())

    runner(tmp_path / 'one', [HOOK], iterations=1, dataset=Images(jitter=0)).train()
    joined, single = (torch.load(tmp_path / name / 'daft_converted.pth', weights_only=False) for name in ('two', 'one'))
    record = joined['meta']['daft_bn']
    assert (record['world_size'], record['num_batches']) == (2, 3)
    for name, value in single['state_dict'].items():
        torch.testing.assert_close(joined['state_dict'][name], value, rtol=1e-5, atol=1e-6)
