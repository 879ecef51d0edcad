"""Bases of the foundation models: published sizes, published normalisation, every backbone with every head."""

from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_dafm.models.backbones.vfm_backbone import VFMBackbone
from tests.models.vfm_families import TINY

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/_base_'


def block(width: int, scales: int = 2, biases: int = 3) -> int:
    """Parameters of a ViT block: 2 norms, q, k, v, projection, MLP of four times the width, layer scales."""
    return 12 * width**2 + (4 + biases + 1 + 5 + scales) * width


def stem(width: int, prefix: int = 1, positions: int = 32 * 32 + 1, bias: int = 1) -> int:
    """Patch embedding of 16 x 16 pixels, class and register tokens, positions of 512 x 512 pixels."""
    return (3 * 16 * 16 + bias + prefix + positions) * width


SWIGLU = 4 * 1024**2 + 8 * 1024 + 3 * 1024 * 2730 + 4 * 2730
FULL = {
    'vit_large_patch14_dinov2.lvd142m': 24 * block(1024) + stem(1024),
    'vit_large_patch14_reg4_dinov2.lvd142m': 24 * block(1024) + stem(1024, 5, 32 * 32),
    'vit_large_patch16_dinov3.lvd1689m': 24 * block(1024, 2, 0) + stem(1024, 5, 0),
    'eva02_large_patch14_224.mim_m38m': 24 * SWIGLU + stem(1024),
    'vit_large_patch14_clip_quickgelu_224.openai': 24 * block(1024, 0) + stem(1024, bias=0) + 2 * 1024,
    'vit_large_patch16_224.mae': 24 * block(1024, 0) + stem(1024),
    'vit_huge_patch14_224.mae': 32 * block(1280, 0) + stem(1280),
    # relative positions, 80 channels a head: 28 blocks of 14 x 14 windows, 4 of the whole 64 x 64 map
    'samvit_huge_patch16.sa1b': 32 * block(1280, 0) + stem(1280, 0, 64 * 64) + 2 * 80 * (28 * 27 + 4 * 127),
}


@pytest.mark.parametrize('name', FULL)
def test_full_size_parameter_counts(name):
    width, depth = (1280, 32) if 'huge' in name else (1024, 24)
    sizes = {} if 'samvit' in name else dict(img_size=512, patch_size=16)
    with torch.device('meta'):
        backbone = VFMBackbone(name, out_indices=range(depth // 4 - 1, depth, depth // 4), **sizes)
    assert sum(value.numel() for value in backbone.parameters()) == FULL[name]
    assert backbone.out_channels == (width,) * 4


def test_dinov2_has_the_papers_304_million_parameters():
    """The published count holds a final norm and a mask token too, which get no gradient and are not built."""
    assert FULL['vit_large_patch14_dinov2.lvd142m'] + 2 * 1024 + 1024 == 304_199_680


BACKBONES = sorted(path.stem for path in (CONFIGS / 'backbones').glob('*.py'))


def config(tmp_path, base: str, name: str | None = None) -> Config:
    """A user's config of a model base, of one backbone base too if it is named."""
    bases = [str(CONFIGS / f'models/{base}.py')]
    text = ''
    if name is not None:
        bases.append(str(CONFIGS / f'backbones/{name}.py'))
        text = 'model = dict(backbone={{_base_.backbone}}, data_preprocessor={{_base_.data_preprocessor}})\n'
        if name.endswith('_h') and 'mask2former' in base:
            text = text.replace('model = dict(', 'model = dict(decode_head=dict(in_channels=[1280] * 4), ')
    (tmp_path / 'config.py').write_text(f'_base_ = {bases}\n{text}')
    return Config.fromfile(tmp_path / 'config.py')


@pytest.mark.parametrize('base', ['vfm_mask2former', 'vfm_fpn'])
@pytest.mark.parametrize('name', BACKBONES)
def test_every_backbone_base_goes_with_every_head(name, base, tmp_path, monkeypatch):
    monkeypatch.setenv(f'{name.upper()}_WEIGHTS', '/some/file.safetensors')
    assert config(tmp_path, base, name).model.backbone.weights == '/some/file.safetensors'
    monkeypatch.delenv(f'{name.upper()}_WEIGHTS')
    cfg = config(tmp_path, base, name).model
    preprocessor = MODELS.build(cfg.pop('data_preprocessor'))
    with torch.device('meta'):
        model = MODELS.build(dict(**cfg, data_preprocessor=preprocessor))
    backbone, published = model.backbone, timm.get_pretrained_cfg(cfg.backbone.model_name)
    assert backbone.pretrained
    assert backbone.weights is None
    assert sum(value.numel() for value in backbone.parameters()) == FULL[cfg.backbone.model_name]
    depth = len(backbone.timm_model.model.feature_info)
    assert cfg.backbone.out_indices[-1] == depth - 1 == len(backbone.timm_model.model.blocks) - 1
    # normalised as in pretraining
    assert preprocessor.mean.flatten().tolist() == pytest.approx([255 * value for value in published.mean], abs=1e-3)
    assert preprocessor.std.flatten().tolist() == pytest.approx([255 * value for value in published.std], abs=1e-3)
    if base == 'vfm_mask2former':
        channels = [conv[0].in_channels for conv in model.decode_head.mask2former.pixel_decoder.input_projections]
        assert {*channels, model.decode_head.mask2former.pixel_decoder.adapter_1[0].in_channels} == {backbone.out_channels[0]}
    else:
        assert model.neck.neck.in_channels == list(backbone.out_channels)


@pytest.mark.parametrize('base', ['dinov2_l_mask2former', 'dinov2_l_fpn'])
def test_model_bases_train_and_slide_when_made_small(base, tmp_path):
    torch.manual_seed(0)
    cfg = config(tmp_path, base).model
    cfg.backbone.update(**TINY, img_size=64, out_indices=(0, 1, 2, 3), pretrained=False)
    cfg.data_preprocessor.size = (64, 64)
    cfg.test_cfg.update(crop_size=(64, 64), stride=(43, 43))
    if base.endswith('fpn'):
        cfg.decode_head.norm_cfg.type = 'BN'
    else:
        cfg.decode_head.update(in_channels=[32] * 4, num_points=64)
    model = MODELS.build(cfg)
    model.init_weights()
    images = [torch.randint(0, 255, (3, 64, 64)).byte() for _ in range(2)]
    labels = [torch.randint(0, 19, (1, 64, 64)) for _ in range(2)]
    metas = dict(img_shape=(64, 64), ori_shape=(64, 64))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=metas) for label in labels]
    wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4)))
    log = model.train().train_step(dict(inputs=images, data_samples=samples), wrapper)
    assert torch.isfinite(log['loss'])
    assert 'decode.acc_seg' in log
    model.eval()
    sample = SegDataSample(metainfo=dict(img_shape=(50, 110), ori_shape=(50, 110)))
    out = model.test_step(dict(inputs=[torch.randint(0, 255, (3, 50, 110)).byte()], data_samples=[sample]))[0]
    assert out.pred_sem_seg.data.shape == (1, 50, 110)
