"""One rank of a DDP run with ChildTuneOptimWrapper: RANK WORLD INIT_FILE OUT."""

import sys

import torch
import torch.distributed as dist
from mmengine.registry import DefaultScope
from torch.nn.parallel import DistributedDataParallel

import mmseg_dafm  # noqa: F401
from tests.optim.selected_weights import BATCHES, Net
from tests.optim.test_childtune import build


def main(rank: int, world: int, init: str, out: str) -> None:
    dist.init_process_group('gloo', init_method=f'file://{init}', rank=rank, world_size=world)
    model = Net()
    # as with diff_rank_seed
    torch.manual_seed(100 + rank)
    wrapped = DistributedDataParallel(model)
    wrapper = build(wrapped, seed=None)
    for step in range(4):
        wrapper.update_params(wrapped(BATCHES[step * world + rank]))
    torch.save(dict(weights=model.state_dict(), seed=wrapper.seed), out)
    dist.destroy_process_group()


if __name__ == '__main__':
    with DefaultScope.overwrite_default_scope('mmseg'):
        main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
