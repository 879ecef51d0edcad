"""Convert on one rank's share of the batches, or on all of them; run as a script, it is one of two gloo processes.

python ranks.py RANK WORLD_SIZE INIT_FILE OUT
"""

import copy
import sys
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from mmseg_dafm.daft import convert_bn
from tests.daft.networks import Net, images, randomise

# name -> estimator, whether the layers are SyncBN
VARIANTS = {
    'batch': ('batch', False),
    'pooled': ('pooled', False),
    'batch-SyncBN': ('batch', True),
    'pooled-SyncBN': ('pooled', True),
}


def network(sync: bool) -> nn.Module:
    torch.manual_seed(0)
    model = randomise(Net())
    return nn.SyncBatchNorm.convert_sync_batchnorm(model).double() if sync else model.double()


def share(rank: int) -> list[torch.Tensor]:
    """A rank's batches of 4 images; the ranks' images differ in brightness and contrast."""
    return [batch.double() * (1 + rank) + 3 * rank for batch in images(3, 4, seed=10 + rank)]


def refused(batches: Iterable, sync: bool) -> str:
    """The sentence that a rank with these batches gets; its model must be as before."""
    model = network(sync)
    before = copy.deepcopy(model.state_dict())
    try:
        convert_bn(model, batches)
    except ValueError as error:
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        return str(error)
    return ''


class Stream(IterableDataset):
    """Batches whose loader has ``__len__``, which raises."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def main() -> None:
    rank, world, init, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{init}', rank=rank, world_size=world)
    results = {}
    for name, (estimator, sync) in VARIANTS.items():
        model = network(sync)
        report = convert_bn(model, share(rank), estimator=estimator)
        results[name] = dict(state=model.state_dict(), report=report.to_dict())
    results['unequal'] = refused(share(rank)[: 2 + rank], sync=False)
    for name, sync in (('plain', False), ('SyncBN', True)):
        few = share(rank)[: 2 + rank]
        results[f'unequal, no length, {name}'] = refused(iter(few), sync)
        results[f'unequal, one with length, {name}'] = refused(few if rank else iter(few), sync)
        model = network(sync)
        stream = DataLoader(Stream(share(rank)), batch_size=None)
        report = convert_bn(model, share(rank) if rank else stream)
        results[f'no length, {name}'] = dict(state=model.state_dict(), report=report.to_dict())
    # the rest of a longer loader is never asked for
    results['limited'] = convert_bn(network(True), share(rank)[: 2 + rank], num_batches=2).num_batches
    torch.save(results, out)
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
