"""Backbones of Domino's Table 1: MaskCLIP's value features, convolutional networks of timm, the U-Net decoder."""

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.config import Config
from mmseg.registry import MODELS
from torch import nn

from mmseg_dafm.models.backbones import MaskCLIPBackbone, TIMMPyramid, VFMBackbone
from mmseg_dafm.models.backbones.mask_clip import ValueAttention, ValuePool
from mmseg_dafm.models.heads import UNetHead

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/baselines/domino_table1'
TINY_VIT = dict(embed_dim=32, depth=3, num_heads=2, img_size=64, pretrained=False, out_indices=(0, 2))
CLIP_VIT = 'vit_base_patch16_clip_quickgelu_224.openai'
TINY_RESNET = dict(model_name='resnet18', channels=(4, 8, 12, 16))


def image(size=64, batch=2):
    return torch.randn(batch, 3, size, size + 32, generator=torch.Generator().manual_seed(0))


def test_value_features_are_those_of_attention_to_oneself():
    torch.manual_seed(0)
    plain = VFMBackbone(CLIP_VIT, **TINY_VIT).eval()
    masked = MaskCLIPBackbone(CLIP_VIT, **TINY_VIT).eval()
    # names are those of the plain network
    masked.load_state_dict(plain.state_dict())
    first, last = masked(image(64))
    torch.testing.assert_close(first, plain(image(64))[0])
    # the last block by hand: every token attends to itself alone
    vit, tokens = plain.timm_model.model, {}
    block = vit.blocks[2]
    handle = block.register_forward_pre_hook(lambda module, args: tokens.update(x=args[0]))
    other = plain(image(64))[1]
    handle.remove()
    x = tokens['x'].double()
    block = block.double()
    weight, bias = block.attn.qkv.weight[64:], block.attn.qkv.bias[64:]
    x = x + (block.norm1(x) @ weight.T + bias) @ block.attn.proj.weight.T + block.attn.proj.bias
    x = x + block.mlp(block.norm2(x))
    expected = x[:, 1:].reshape(2, 4, 6, 32).movedim(-1, 1)
    torch.testing.assert_close(last.double(), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(last, other)


def test_every_parameter_of_the_clip_tower_gets_a_gradient():
    model = MaskCLIPBackbone(CLIP_VIT, **TINY_VIT)
    sum(out.square().mean() for out in model(image(64))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_value_features_need_the_last_block_and_a_fused_projection():
    with pytest.raises(ValueError, match='out_indices end with block 1; .* end out_indices with 2'):
        MaskCLIPBackbone(CLIP_VIT, **{**TINY_VIT, 'out_indices': (0, 1)})
    with pytest.raises(ValueError, match='with qkv and proj, got Identity'):
        ValueAttention(nn.Identity())
    with pytest.raises(ValueError, match='attention pooling of a CLIP ResNet, got Linear'):
        ValuePool(nn.Linear(2, 2))


@pytest.fixture(scope='module')
def clip_resnet():
    torch.manual_seed(0)
    return timm.create_model('resnet50_clip').eval()


def test_value_features_of_clips_resnet(clip_resnet, tmp_path):
    torch.save(clip_resnet.state_dict(), tmp_path / 'clip.pth')
    model = TIMMPyramid('resnet50_clip', value_features=True, weights=str(tmp_path / 'clip.pth')).eval()
    model.init_weights()
    with torch.no_grad():
        found = model(image(64, 1))
        expected = clip_resnet.forward_intermediates(image(64, 1), indices=[1, 2, 3, 4], intermediates_only=True)
        head = clip_resnet.head
        values = F.conv2d(expected[-1], head.v.weight[..., None, None], head.v.bias)
        values = F.conv2d(values, head.proj.weight[..., None, None], head.proj.bias)
    assert model.out_channels == tuple(part.shape[1] for part in found) == (256, 512, 1024, 1024)
    for one, other in zip(found, [*expected[:3], values], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    # nothing of the pooling's queries, keys and positions is left to go without gradient
    assert sorted(name for name, _ in model.network.head.named_parameters()) == ['proj.bias', 'proj.weight', 'v.bias', 'v.weight']


def test_a_pyramid_is_the_networks_stages_and_all_of_it_trains():
    torch.manual_seed(0)
    model = TIMMPyramid(**TINY_RESNET, out_indices=(0, 2, 3), pretrained=False)
    maps = model(image())
    assert [tuple(part.shape[1:]) for part in maps] == [(64, 32, 48), (8, 8, 12), (12, 4, 6)]
    assert model.out_channels == (64, 8, 12)
    assert model.size_divisor == 16
    sum(part.square().mean() for part in maps).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def weights(tmp_path, change=lambda state: state):
    torch.manual_seed(1)
    state = timm.create_model('resnet18', channels=TINY_RESNET['channels']).state_dict()
    torch.save(change(state), tmp_path / 'weights.pth')
    return state, str(tmp_path / 'weights.pth')


def test_weights_are_read_completely(tmp_path):
    state, path = weights(tmp_path)
    model = TIMMPyramid(**TINY_RESNET, out_indices=(1, 2), weights=path)
    model.init_weights()
    own = model.network.state_dict()
    assert own
    assert all(torch.equal(value, state[name]) for name, value in own.items())
    # what a checkpoint of the segmentor filled stays
    other = TIMMPyramid(**TINY_RESNET, out_indices=(1, 2), weights='nowhere.pth')
    other.load_state_dict(model.state_dict())
    other.init_weights()
    with pytest.raises(FileNotFoundError, match='there is no such file'):
        TIMMPyramid(**TINY_RESNET, weights='nowhere.pth').init_weights()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: {k: v for k, v in state.items() if k != 'layer2.0.conv1.weight'}, '1 of .*first: layer2.0.conv1.weight'),
        (lambda state: {**state, 'layer9.weight': torch.ones(1)}, '1 are unexpected.*first: layer9.weight'),
        (lambda state: {**state, 'conv1.weight': torch.ones(3)}, '1 have another shape .first: conv1.weight'),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, message):
    _, path = weights(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        TIMMPyramid(**TINY_RESNET, weights=path).init_weights()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(model_name='no_such_network'), "timm cannot build model_name='no_such_network'"),
        (dict(model_name='vit_tiny_patch16_224', channels=None), 'use VFMBackbone for plain ViTs'),
        (dict(out_indices=(1, 7)), r'out_indices=\(1, 7\): resnet18 has stages 0 to 4'),
        (dict(out_indices=(1, 2), value_features=True), 'needs the last stage, 4'),
        (dict(value_features=True), 'attention pooling of a CLIP ResNet'),
    ],
)
def test_networks_of_another_kind_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TIMMPyramid(**{k: v for k, v in {**TINY_RESNET, 'pretrained': False, **options}.items() if v is not None})


def test_the_unet_decoder_by_hand():
    torch.manual_seed(0)
    options = dict(num_classes=3, norm_cfg=None, align_corners=False, dropout_ratio=0, loss_decode=dict(type='CrossEntropyLoss'))
    head = UNetHead([4, 6, 8], [5, 7], **options).eval()
    maps = [torch.randn(2, c, h, w) for c, h, w in ((4, 15, 20), (6, 8, 10), (8, 4, 5))]
    x = maps[2]
    for step, skip in zip(head.steps, (maps[1], maps[0]), strict=True):
        x = torch.cat([F.interpolate(x, skip.shape[2:], mode='bilinear'), skip], 1)
        for layer in step:
            x = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1).relu()
    torch.testing.assert_close(head(maps), F.conv2d(x, head.conv_seg.weight, head.conv_seg.bias))
    with pytest.raises(ValueError, match=r'3 maps \(in_channels\) need 2 steps, channels=\(5,\)'):
        UNetHead([4, 6, 8], [5], **options)


@pytest.mark.parametrize(
    ('name', 'millions', 'channels'),
    [
        ('fpn_dinov2_l', 304.4, (1024,) * 4),
        ('fpn_clip_b16', 86.4, (768,) * 4),
        ('fpn_clip_r101', 47.8, (256, 512, 1024, 512)),
        ('unet_resnetrs420', 189.8, (64, 256, 512, 1024, 2048)),
    ],
)
def test_full_size_models_build(name, millions, channels):
    cfg = Config.fromfile(CONFIGS / f'{name}_cityscapes.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.backbone.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert model.backbone.out_channels == channels
    assert len(model.decode_head.loss_decode.class_weight) == 19
    if name.startswith('fpn'):
        assert (model.decode_head.channels, model.decode_head.num_classes) == (128, 19)
