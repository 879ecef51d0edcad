"""Three training steps of a tiny segmentor on one rank or on the joined batch; run as a script, it is one of two ranks.

python ddp_steps.py RANK WORLD_SIZE INIT_FILE OUT
"""

import sys

import torch
import torch.distributed as dist
from mmengine.model.wrappers import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmseg_dafm  # noqa: F401
from tests.models_common import domain_embedding, segmentor, vpd_backbone

STEPS, PER_RANK, SIZE = 3, 2, (64, 64)
# name -> fuse mode, statistics of the head's norms, gradient checkpointing
VARIANTS = {
    'none-LN': ('none', 'LN', False),
    'add-SyncBN': ('add', 'SyncBN', False),
    'sub-LN-checkpointing': ('sub', 'LN', True),
    'token-SyncBN-checkpointing': ('token', 'SyncBN', True),
}


def build(variant: str, seed: int) -> torch.nn.Module:
    """A float64 segmentor with a trainable CLIP tower and temperature, whose norms do not see how a batch is split."""
    fuse, stats, checkpointing = VARIANTS[variant]
    torch.manual_seed(seed)
    cfg = segmentor(
        fuse=fuse,
        stats=stats,
        backbone=vpd_backbone(fuse=fuse, gradient_checkpointing=checkpointing),
        domain_embedding=domain_embedding(image_encoder=dict(trainable=True), temperature=0.1, learnable_temperature=True),
        # takes float64 as it is
        data_preprocessor=dict(type='BaseDataPreprocessor'),
    )
    return MODELS.build(cfg).double().train()


def batches(world: int) -> list[tuple[torch.Tensor, list]]:
    """The joined batches of all ranks, images in [-1, 1]."""
    generator = torch.Generator().manual_seed(7)
    found = []
    for _ in range(STEPS):
        images = torch.rand(world * PER_RANK, 3, *SIZE, dtype=torch.float64, generator=generator) * 2 - 1
        samples = []
        for _ in range(world * PER_RANK):
            sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 6, (1, *SIZE), generator=generator)))
            whole = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=generator)
            sample.set_metainfo(dict(img_shape=SIZE, ori_shape=SIZE, domain_img=whole))
            samples.append(sample)
        found.append((images, samples))
    return found


def train(variant: str, world: int, rank: int | None = None) -> dict:
    """Train on one rank's share of each batch, or without a rank on the whole of it; return weights and losses."""
    model = build(variant, seed=rank or 0)
    start = {name: value.clone() for name, value in model.named_parameters() if value.requires_grad}
    share = slice(None) if rank is None else slice(rank * PER_RANK, (rank + 1) * PER_RANK)
    runner = model if rank is None else MMDistributedDataParallel(model, find_unused_parameters=False, broadcast_buffers=False)
    optim_wrapper = build_optim_wrapper(
        runner,
        dict(
            type='OptimWrapper', constructor='VPDOptimWrapperConstructor', clip_grad=dict(max_norm=1.0),
            optimizer=dict(type='AdamW', lr=1e-2, weight_decay=1e-3),
        ),
    )  # fmt: skip
    losses = []
    for images, samples in batches(world):
        log = runner.train_step(dict(inputs=images[share], data_samples=samples[share]), optim_wrapper)
        losses.append(log['loss'].item())
    still = [name for name, value in model.named_parameters() if value.requires_grad and torch.equal(value, start[name])]
    return dict(state=model.state_dict(), losses=losses, still=still)


def main() -> None:
    """Join the other rank, train every variant and write the outcome."""
    rank, world, init_file, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{init_file}', rank=rank, world_size=world)
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save({variant: train(variant, world, rank) for variant in VARIANTS}, out)
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
