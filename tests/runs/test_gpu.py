"""What only a GPU can show: bf16 AMP steps, SyncBN configs, the memory that checkpointing saves, batched windows."""

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from tests.models_common import segmentor, vpd_backbone
from tests.runs.common import run, tiny_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')


def test_amp_wrapper_trains_in_bfloat16(tmp_path):
    cfg = tiny_config(tmp_path, 3)
    cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=1.0)
    seen = []
    forward = torch.nn.functional.conv2d

    def recorded(*args, **kwargs):
        out = forward(*args, **kwargs)
        seen.append(out.dtype)
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, 'conv2d', recorded)
        runner = run(cfg, 'amp')
    assert set(seen) == {torch.bfloat16}
    assert all(torch.isfinite(value).all() for value in runner.model.state_dict().values() if value.is_floating_point())
    assert {p.dtype for p in runner.model.parameters()} == {torch.float32}


def test_the_quickstart_with_sync_bn_trains(root, tmp_path):
    cfg = Config.fromfile(root / 'configs/quickstart/domino_sub_toydrive.py')
    changes = {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'val_dataloader.dataset.length': 5}
    cfg.merge_from_dict({**changes, 'model.decode_head.stats': 'SyncBN'})
    cfg.work_dir = str(tmp_path)
    assert run(cfg, 'syncbn').iter == 2


def step_memory(checkpointing: bool) -> int:
    torch.manual_seed(0)
    unet = dict(block_out_channels=(64, 128, 128, 128), cross_attention_dim=64, attention_head_dim=4, layers_per_block=2)
    vae = vpd_backbone()['architecture']['vae']
    backbone = MODELS.build(
        vpd_backbone(
            architecture=dict(unet=unet, vae=vae),
            class_embeddings=dict(provider='hash', classes=('a', 'b', 'c'), dim=64),
            gradient_checkpointing=checkpointing,
        )
    ).cuda()
    images = torch.rand(2, 3, 512, 512, device='cuda') * 2 - 1
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.autocast('cuda', torch.bfloat16):
        loss = sum(feature.float().mean() for feature in backbone(images))
    held = torch.cuda.memory_allocated() - before
    loss.backward()
    return held


def test_checkpointing_holds_less_than_half_of_the_memory_between_forward_and_backward():
    step_memory(False)  # cuDNN's workspaces
    assert step_memory(True) < 0.5 * step_memory(False)


def test_batched_windows_give_the_logits_of_one_at_a_time():
    torch.manual_seed(0)
    test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(40, 40))
    model = MODELS.build(segmentor(test_cfg=test_cfg)).cuda().eval()
    images = torch.rand(1, 3, 128, 192, device='cuda') * 2 - 1
    metas = [dict(img_shape=(128, 192))]
    with torch.no_grad():
        results = []
        for window_batch in (1, 3, None):
            model.test_cfg = {**test_cfg, 'window_batch': window_batch}
            results.append(model.inference(images, metas))
    for result in results[1:]:
        # convolution algorithms depend on the batch, and TF32 rounds
        assert torch.allclose(result, results[0], atol=1e-2)
