"""Tiny members of the families of vision foundation models, and their weights as timm and as the original releases name them."""

import re

import timm
import torch
import torch.nn.functional as F  # noqa: N812
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_dafm.models.backbones.vfm_backbone import VFMBackbone

TINY = dict(embed_dim=32, depth=4, num_heads=2)
# positions, patches and images of the checkpoint differ from those of the backbone
SOURCE, TARGET = dict(img_size=56, patch_size=14), dict(img_size=64, patch_size=16)
FAMILIES = {
    'dinov2': ('vit_large_patch14_dinov2.lvd142m', SOURCE, TARGET),
    'dinov2_reg': ('vit_large_patch14_reg4_dinov2.lvd142m', SOURCE, TARGET),
    'dinov3': ('vit_large_patch16_dinov3.lvd1689m', dict(img_size=96), dict(img_size=64)),
    'eva02': ('eva02_large_patch14_224.mim_m38m', SOURCE, TARGET),
    'clip': ('vit_large_patch14_clip_quickgelu_224.openai', SOURCE, TARGET),
    'sam': ('samvit_huge_patch16.sa1b', *[dict(img_size=128, global_attn_indexes=(1, 3))] * 2),
    'mae': ('vit_huge_patch14_224.mae', SOURCE, TARGET),
}
JUNK = torch.ones(2)


def settings(family: str, **changes) -> dict:
    """Config of a tiny VFMBackbone, without weights unless a file is given."""
    name, _, target = FAMILIES[family]
    fixed = dict(type='VFMBackbone', model_name=name, out_indices=(0, 1, 2, 3), pretrained='weights' in changes)
    return {**fixed, **TINY, **target, **changes}


def build(family: str, **changes) -> VFMBackbone:
    """A tiny VFMBackbone."""
    return MODELS.build(settings(family, **changes))


@torch.no_grad()
def published(family: str, sizes: dict | None = None) -> torch.nn.Module:
    """The whole model with a head and without a zero or a repeated value in its weights."""
    torch.manual_seed(3)
    name, source, _ = FAMILIES[family]
    model = timm.create_model(name, **TINY, **(source if sizes is None else sizes)).eval()
    for parameter in model.parameters():
        parameter.normal_(0.1, 0.1)
    return model


def head(kind: str, classes: int = 5, **changes) -> dict:
    """Neck and decode head, both tiny, of a segmentor: ``mask2former`` or ``fpn``."""
    if kind == 'fpn':
        neck = dict(type='ScalePyramid', neck=dict(type='FPN', in_channels=[32] * 4, out_channels=16, num_outs=4))
        decode_head = dict(
            type='FPNHead', in_channels=[16] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32], channels=16,
            dropout_ratio=0, num_classes=classes, norm_cfg=dict(type='BN'), align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss'),
        )  # fmt: skip
        return dict(neck=neck, decode_head={**decode_head, **changes})
    decode_head = dict(
        type='HFMask2FormerHead', in_channels=[32] * 4, num_classes=classes, channels=32, num_queries=10, num_heads=4,
        encoder_layers=1, decoder_layers=3, encoder_ffn=32, decoder_ffn=32, num_points=96,
    )  # fmt: skip
    return dict(neck=dict(type='ScalePyramid'), decode_head={**decode_head, **changes})


def segmentor(family: str, kind: str, backbone: dict | None = None, **changes) -> dict:
    """Config of a tiny EncoderDecoder on a family's backbone."""
    preprocessor = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[60.0] * 3, bgr_to_rgb=True, size=(64, 64))
    return {
        **dict(type='EncoderDecoder', data_preprocessor=preprocessor, backbone=settings(family, **(backbone or {}))),
        **head(kind), **dict(train_cfg=dict(), test_cfg=dict(mode='whole')), **changes,
    }  # fmt: skip


def renamed(state: dict, *rules: tuple[str, str]) -> dict:
    for pattern, new in rules:
        state = {re.sub(pattern, new, key): value for key, value in state.items()}
    return state


def dinov2(state: dict) -> dict:
    return {**state, 'mask_token': JUNK}


def dinov2_reg(state: dict) -> dict:
    state = dinov2(renamed(state, ('reg_token', 'register_tokens')))
    position = torch.randn(1, 1, state['pos_embed'].shape[-1])
    state['cls_token'] = state['cls_token'] - position
    state['pos_embed'] = torch.cat([position, state['pos_embed']], 1)
    return state


def dinov3(state: dict) -> dict:
    state = renamed(state, ('reg_token', 'storage_tokens'), (r'gamma_(\d)', r'ls\1.gamma'))
    biases = {f'blocks.{i}.attn.qkv.{name}': torch.zeros(96) for i in range(4) for name in ('bias', 'bias_mask')}
    return {**state, **biases, 'mask_token': JUNK, 'rope_embed.periods': JUNK}


def eva02(state: dict) -> dict:
    rules = ('fc1_g', 'w1'), ('fc1_x', 'w2'), ('fc2', 'w3'), (r'mlp\.norm', 'mlp.ffn_ln'), (r'([qv])_proj\.bias', r'\1_bias')
    state = renamed(state, *rules)
    ropes = {f'blocks.{i}.attn.rope.freqs_cos': JUNK for i in range(4)}
    return {'model': {**state, **ropes, 'mask_token': JUNK, 'lm_head.weight': JUNK}}


def clip(state: dict) -> dict:
    state = renamed(
        state, ('norm_pre', 'ln_pre'), ('^norm', 'ln_post'), (r'\.norm', '.ln_'), ('^blocks', 'transformer.resblocks'),
        (r'attn\.qkv\.', 'attn.in_proj_'), (r'attn\.proj', 'attn.out_proj'), ('mlp.fc1', 'mlp.c_fc'), ('mlp.fc2', 'mlp.c_proj'),
        (r'patch_embed\.proj', 'conv1'), ('pos_embed', 'positional_embedding'), ('cls_token', 'class_embedding'),
    )  # fmt: skip
    state = {key: value for key, value in state.items() if not key.startswith('head')}
    state['positional_embedding'] = state['positional_embedding'][0]
    state['class_embedding'] = state['class_embedding'][0, 0]
    tower = {f'visual.{key}': value for key, value in state.items()}
    return {**tower, 'visual.proj': torch.ones(32, 8), 'logit_scale': JUNK, 'transformer.resblocks.0.ln_1.weight': JUNK}


def sam(state: dict) -> dict:
    state = {f'image_encoder.{key}': value for key, value in renamed(state, ('mlp.fc', 'mlp.lin')).items()}
    return {**state, 'mask_decoder.iou_token.weight': JUNK, 'prompt_encoder.no_mask_embed.weight': JUNK}


def mae(state: dict) -> dict:
    return {'model': {**state, 'mask_token': JUNK, 'decoder_pos_embed': JUNK, 'decoder_blocks.0.norm1.weight': JUNK}}


ORIGINAL = dict(dinov2=dinov2, dinov2_reg=dinov2_reg, dinov3=dinov3, eva02=eva02, clip=clip, sam=sam, mae=mae)


def samples(labels) -> list[SegDataSample]:
    """mmseg's samples of label maps (H, W)."""
    return [SegDataSample(gt_sem_seg=PixelData(data=label[None]), metainfo=dict(img_shape=label.shape)) for label in labels]


def patchy(batch=2, size=(64, 96), classes=5):
    """Label maps of 8 x 8 squares."""
    coarse = torch.randint(0, classes, (batch, 1, size[0] // 8, size[1] // 8)).float()
    return F.interpolate(coarse, scale_factor=8).long()[:, 0]
