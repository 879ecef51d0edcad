"""One rank of a DDP run with FisherTuneOptimWrapper: RANK WORLD INIT_FILE OUT."""

import sys

import torch
import torch.distributed as dist
from mmengine.registry import DefaultScope
from torch.nn.parallel import DistributedDataParallel

import mmseg_dafm  # noqa: F401
from tests.optim.selected_weights import BATCHES, Net, build, some_ranking


def main(rank: int, world: int, init: str, out: str) -> None:
    dist.init_process_group('gloo', init_method=f'file://{init}', rank=rank, world_size=world)
    model = Net()
    wrapper = build(DistributedDataParallel(model))
    wrapper.select(some_ranking(wrapper, 60))
    wrapper.freeze_unused()
    # the hook's order: freeze, then wrap anew
    wrapped = DistributedDataParallel(model)
    for step in range(6):
        if step in (0, 3):
            wrapper.grow({0: 20, 3: 60}[step])
        wrapper.update_params(wrapped(BATCHES[step * world + rank]))
    torch.save(model.state_dict(), out)
    dist.destroy_process_group()


if __name__ == '__main__':
    with DefaultScope.overwrite_default_scope('mmseg'):
        main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
