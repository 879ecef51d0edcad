"""Convert on one rank's share of the batches, or on all of them; run as a script, it is one of two gloo processes.

python ranks.py RANK WORLD_SIZE INIT_FILE OUT
"""

import sys

import torch
import torch.distributed as dist
from torch import nn

from mmseg_dafm.bn import convert_bn
from tests.bn.networks import Net, images, randomise

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


def unequal(rank: int) -> str:
    """The sentence that ranks with different numbers of batches get."""
    try:
        convert_bn(network(False), share(rank)[: 2 + rank])
    except ValueError as error:
        return str(error)
    return ''


def main() -> None:
    rank, world, init, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{init}', rank=rank, world_size=world)
    results = {}
    for name, (estimator, sync) in VARIANTS.items():
        model = network(sync)
        report = convert_bn(model, share(rank), estimator=estimator)
        results[name] = dict(state=model.state_dict(), report=report.to_dict())
    results['unequal'] = unequal(rank)
    torch.save(results, out)
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
