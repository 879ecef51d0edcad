"""One of two gloo processes that train a classifier with BNConversionHook: python ranks.py RANK WORLD_SIZE INIT_FILE FOLDER."""

import os
import sys

import torch
import torch.distributed as dist
from torch import nn

import mmseg_dafm  # noqa: F401
from tests.hooks.classifier import Classifier, Images, runner

HOOK = dict(type='mmseg.BNConversionHook', modules=['net.backbone'])
# name -> options of the hook, whether the layers are SyncBN
VARIANTS = {'pooled': (dict(estimator='pooled'), False), 'default': ({}, False), 'default-SyncBN': ({}, True)}


class SyncBatchNorm(nn.BatchNorm2d):
    """Counts as synchronised by its name, as mmcv's own does; DDP refuses torch's on a CPU."""


def classifier(sync: bool) -> Classifier:
    model = Classifier()
    for block in model.net.backbone if sync else ():
        block.bn.__class__ = SyncBatchNorm
    return model


def main() -> None:
    rank, world, init, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{init}', rank=rank, world_size=world)
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=False, device_ids=None)
    options = dict(iterations=2, dataset=Images(jitter=0), launcher='pytorch', cfg=dict(model_wrapper_cfg=wrapper))
    for name, (changes, sync) in VARIANTS.items():
        run = runner(f'{folder}/{name}', [{**HOOK, **changes}], classifier(sync), **options)
        run.train()
        parameters = {name: value.detach() for name, value in run.model.module.named_parameters()}
        torch.save(dict(parameters=parameters, seen=run.model.module.seen), f'{folder}/{name}-{rank}.pt')
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
