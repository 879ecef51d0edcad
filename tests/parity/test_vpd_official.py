"""Preset vpd_legacy with imported official weights equals an independent VPD; the importer covers every tensor."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from torch import nn

from mmseg_dafm.models.backbones.sd_weights import convert_vpd_checkpoint, load_unet, load_vae_encoder
from tests.models_common import VAE
from tests.parity.vpd_reference import VPDReference

WIDTHS, CLASSES = (16, 16, 32, 32), 5
UNET = dict(block_out_channels=WIDTHS, layers_per_block=2, cross_attention_dim=12, attention_head_dim=2, norm_num_groups=4)


@pytest.fixture
def reference():
    model = VPDReference(WIDTHS, 8, torch.randn(CLASSES, 12), heads=2)
    for parameter in model.parameters():  # biases and norms too, so that no key can hide behind a default
        nn.init.normal_(parameter, std=0.2)
    return model


def with_heads(reference):
    """The state dict of the reference with the neck and the head of the official segmentor."""
    outputs = [width + CLASSES * (level in (1, 2)) for level, width in enumerate(WIDTHS)]
    reference.neck = MODELS.build(dict(type='FPN', in_channels=outputs, out_channels=256, num_outs=4))
    head = dict(type='FPNHead', in_channels=[256] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32], channels=256)
    reference.decode_head = MODELS.build(dict(head, num_classes=CLASSES, norm_cfg=dict(type='BN')))
    return reference.state_dict()


def build(**kwargs):
    names = [str(i) for i in range(CLASSES)]
    return MODELS.build(
        dict(
            type='VPDBackbone', architecture=dict(unet=UNET, vae=VAE), pretrained=None, preset='vpd_legacy',
            class_embeddings=dict(provider='hash', classes=names, dim=12), **kwargs,
        )
    )  # fmt: skip


def convert(reference):
    from mmseg_dafm.models.backbones.sd_weights import SD15_UNET

    return convert_vpd_checkpoint(reference.state_dict(), {**SD15_UNET, **UNET}, VAE)


def test_vpd_legacy_equals_the_reference(reference):
    state, dropped = convert(reference)
    backbone = build()
    incompatible = backbone.load_state_dict({k.removeprefix('backbone.'): v for k, v in state.items()})
    assert incompatible == ([], [])
    assert set(dropped) == {'sd_model.betas'} | {
        f'unet.unet.diffusion_model.out.{i}.{p}' for i in (0, 2) for p in ('weight', 'bias')
    }
    reference, backbone = reference.double().eval(), backbone.double().eval()
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        expected, outs = reference(images), backbone(images)
    for out, wanted in zip(outs, expected, strict=True):
        assert out.shape == wanted.shape
        assert torch.allclose(out, wanted, rtol=1e-9, atol=1e-9)
    # and the default preset is something else: scaled latents
    backbone.latents.scale = 0.18215
    assert not torch.allclose(backbone(images)[0], expected[0], rtol=1e-3)


def test_heads_and_embeddings_travel_along(reference):
    reference.neck, reference.decode_head = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
    state, _ = convert(reference)
    assert torch.equal(state['neck.weight'], reference.neck.weight)
    assert torch.equal(state['decode_head.bias'], reference.decode_head.bias)
    assert torch.equal(state['backbone.class_embeddings'], reference.class_embeddings)


def test_foreign_keys_and_foreign_files_are_refused(reference):
    with pytest.raises(ValueError, match='not an official VPD segmentation checkpoint'):
        convert(nn.Linear(2, 2))
    reference.surprise = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r'2 keys of the VPD checkpoint are not understood: \[.surprise'):
        convert(reference)


@pytest.mark.parametrize('suffix', ['.ckpt', '.safetensors'])
def test_one_file_of_the_original_release_loads(reference, tmp_path, suffix):
    from safetensors.torch import save_file

    old = reference.state_dict()
    state = {f'model.{k.removeprefix("unet.unet.")}': v.clone() for k, v in old.items() if k.startswith('unet.unet.')}
    state.update(
        {f'first_stage_model.{k.removeprefix("encoder_vq.")}': v.clone() for k, v in old.items() if k.startswith('encoder_vq.')}
    )
    path = str(tmp_path / f'sd{suffix}')
    save_file(state, path) if suffix == '.safetensors' else torch.save({'state_dict': state}, path)
    backbone = build()
    load_unet(backbone.unet, path)
    load_vae_encoder(backbone.latents, path)
    converted, _ = convert(reference)
    for name, value in backbone.unet.state_dict().items():
        assert torch.equal(value, converted[f'backbone.unet.{name}'])
    assert torch.equal(backbone.latents.encoder.conv_in.weight, converted['backbone.latents.encoder.conv_in.weight'])


def test_a_damaged_file_gives_one_sentence(tmp_path):
    path = tmp_path / 'broken.ckpt'
    path.write_bytes(b'no checkpoint')
    with pytest.raises(ValueError, match='broken.ckpt cannot be read: it is cut off or no checkpoint'):
        load_unet(build().unet, str(path))


@pytest.fixture
def converter(root, monkeypatch):
    """The command line of the converter, called in this process."""
    path = root / 'tools/model_converters/vpd_official.py'
    spec = importlib.util.spec_from_file_location('vpd_official_tool', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', [path.name, *map(str, arguments)])
        tool.main()

    return call


def test_the_converter_refuses_in_one_sentence_and_writes_nothing(converter, tmp_path):
    torch.save({'state_dict': {'a': torch.zeros(1)}}, tmp_path / 'x.pth')
    for source, message in (('x.pth', 'not an official VPD'), ('y.pth', 'does not exist')):
        with pytest.raises(SystemExit, match=f'^error: .*{message}'):
            converter(tmp_path / source, tmp_path / 'out.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['x.pth']


def test_the_converter_writes_what_the_backbone_loads(converter, reference, tmp_path, monkeypatch):
    from mmseg_dafm.models.backbones import sd_weights as sd_architectures

    monkeypatch.setitem(sd_architectures.ARCHITECTURES, 'tiny', dict(unet={**sd_architectures.SD15_UNET, **UNET}, vae=VAE))
    published = with_heads(reference)
    # mmcv's save_best leaves numpy's numbers in the metadata
    meta = dict(CLASSES=('a', 'b'), hook_msgs=dict(best_score=np.float64(53.7)))
    for name, state in (('plain', published), ('ddp', {f'module.{key}': value for key, value in published.items()})):
        torch.save({'state_dict': state, 'meta': meta}, tmp_path / f'{name}.pth')
    torch.save({'model': published}, tmp_path / 'wrapped.pth')
    for name in ('plain', 'ddp', 'wrapped'):
        converter(tmp_path / f'{name}.pth', tmp_path / 'ours.pth', '--architecture', 'tiny')
        state = torch.load(tmp_path / 'ours.pth', weights_only=True)['state_dict']
        backbone = {k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')}
        assert build().load_state_dict(backbone) == ([], [])
        assert torch.equal(state['decode_head.conv_seg.bias'], published['decode_head.conv_seg.bias'])


UNET_KEY = 'unet.unet.diffusion_model.'
ATTENTION = 'input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight'


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda s: s.pop(UNET_KEY + ATTENTION), 'attn2.to_k'),
        (
            lambda s: [s.pop(key) for key in list(s) if 'encoder.down.1' in key],
            'latents.encoder|encoder.down.1',
        ),
        (lambda s: [s.pop(key) for key in list(s) if key.startswith('encoder_vq.')], 'latents.encoder|encoder'),
        (lambda s: [s.pop(key) for key in list(s) if key.startswith('decode_head.')], 'decode_head'),
        (lambda s: [s.pop(key) for key in list(s) if key.startswith('neck.')], 'neck'),
        (lambda s: [s.pop(key) for key in list(s) if key.startswith('text_adapter.')], 'text_adapter'),
        (lambda s: s.pop('class_embeddings'), 'class_embeddings'),
        (lambda s: s.update({UNET_KEY + 'input_blocks.1.0.surprise': torch.ones(1)}), 'surprise|without a place'),
        (lambda s: s.update({UNET_KEY + ATTENTION: torch.ones(2, 2)}), r'to_k.weight: \(2, 2\)'),
        (lambda s: s['gamma'].fill_(float('nan')), 'not finite .gamma'),
    ],
)
def test_an_incomplete_or_foreign_vpd_is_refused(converter, reference, tmp_path, monkeypatch, change, words):
    from mmseg_dafm.models.backbones import sd_weights as sd_architectures

    monkeypatch.setitem(sd_architectures.ARCHITECTURES, 'tiny', dict(unet={**sd_architectures.SD15_UNET, **UNET}, vae=VAE))
    state = with_heads(reference)
    change(state)
    torch.save({'state_dict': state}, tmp_path / 'vpd.pth')
    with pytest.raises(SystemExit, match=f'^error: .*({words})'):
        converter(tmp_path / 'vpd.pth', tmp_path / 'ours.pth', '--architecture', 'tiny')
    assert not (tmp_path / 'ours.pth').exists()


def test_the_architecture_must_be_the_file_s_own(converter, reference, tmp_path):
    torch.save({'state_dict': with_heads(reference)}, tmp_path / 'vpd.pth')
    with pytest.raises(SystemExit, match='^error: .*vpd.pth does not fit|^error: .*architecture'):
        converter(tmp_path / 'vpd.pth', tmp_path / 'ours.pth', '--architecture', 'sd1.5')
