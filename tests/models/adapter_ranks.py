"""Adapters on two ranks: run as a script, it is one of them.

python adapter_ranks.py RANK WORLD_SIZE INIT_FILE OUT
"""

import sys

import torch
import torch.distributed as dist
from mmengine.model.wrappers import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

import mmseg_dafm  # noqa: F401
from tests.models.vfm_families import patchy, samples, segmentor

MODELS_BY_KIND = dict(
    Rein=(dict(type='Rein', tokens=10, rank=2, query_channels=32), 'ReinEncoderDecoder'),
    VQT=(dict(type='VQT', tokens=3), 'EncoderDecoder'),
)


def train(kind: str, rank: int) -> dict:
    """Weights before and after two DDP steps on images of this rank's own, without ``find_unused_parameters``."""
    adapter, model_type = MODELS_BY_KIND[kind]
    # DDP hands on the first rank's weights
    torch.manual_seed(rank)
    model = MODELS.build(segmentor('dinov2', 'mask2former', backbone=dict(adapter=adapter), type=model_type)).train()
    ddp = MMDistributedDataParallel(model, find_unused_parameters=False)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    start = {name: value.detach().clone() for name, value in trained.items()}
    optim_wrapper = build_optim_wrapper(ddp, dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)))
    torch.manual_seed(100 + rank)
    for _ in range(2):
        images = list(torch.randint(0, 255, (2, 3, 64, 64)).byte())
        ddp.train_step(dict(inputs=images, data_samples=samples(patchy(size=(64, 64)))), optim_wrapper)
    return dict(start=start, weights=model.state_dict(), image=images[0])


def main() -> None:
    """Join the other rank, train each kind and write the outcome."""
    rank, world, init_file, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{init_file}', rank=rank, world_size=world)
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save({kind: train(kind, rank) for kind in MODELS_BY_KIND}, out)
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
