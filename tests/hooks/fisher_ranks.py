"""One of two gloo processes that train with FisherTuneHook: RANK WORLD_SIZE INIT_FILE FOLDER ESTIMATOR|mask2former."""

import os
import sys

import torch
import torch.distributed as dist

import mmseg_dafm  # noqa: F401
from tests.hooks.fisher_run import build, config, mask2former, mask2former_hook


def main() -> None:
    rank, world, init, folder, estimator = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{init}', rank=rank, world_size=world)
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=False, device_ids=None)
    options = dict(model_wrapper_cfg=wrapper, launcher='pytorch')
    if estimator == 'mask2former':
        cfg = config(folder, mask2former_hook(), model=mask2former(), **options)
        cfg.randomness.diff_rank_seed = True
    else:
        cfg = config(folder, dict(estimation=dict(estimator=estimator)), **options)
    # each rank takes one image of the two that a single process takes
    cfg.train_dataloader.batch_size = 1
    runner = build(cfg)
    runner.train()
    weights = runner.model.module.state_dict()
    torch.save(dict(weights=weights, ranking=runner.optim_wrapper.ranking), f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
