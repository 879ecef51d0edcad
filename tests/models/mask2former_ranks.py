"""Mask2Former on two ranks: run as a script, it is one of them.

python mask2former_ranks.py RANK WORLD_SIZE INIT_FILE OUT
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
from tests.models.vfm_families import segmentor


def main() -> None:
    """Two DDP steps, then the number of masks that rank r, which has 1 + 2 r of them, divides by."""
    rank, world, init_file, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{init_file}', rank=rank, world_size=world)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(segmentor('dinov2', 'mask2former'))
    ddp = MMDistributedDataParallel(model, find_unused_parameters=False)
    optim_wrapper = build_optim_wrapper(ddp, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3)))
    torch.manual_seed(rank)
    for _ in range(2):
        # the second rank sees no labelled pixel at all
        labels = torch.randint(0, 5, (1, 64, 64)) if rank == 0 else torch.full((1, 64, 64), 255)
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=dict(img_shape=(64, 64)))
        ddp.train_step(dict(inputs=[torch.randint(0, 255, (3, 64, 64)).byte()], data_samples=[sample]), optim_wrapper)
    found = model.decode_head.mask2former.criterion.get_num_masks([torch.arange(1 + 2 * rank)], torch.device('cpu'))
    weights = {name: value for name, value in model.named_parameters() if value.requires_grad}
    torch.save(dict(masks=float(found), weights=weights), out)
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
