"""Preset vpd_legacy with imported official weights equals an independent VPD; the importer covers every tensor."""

import importlib.util
import sys

import pytest
import torch
from mmseg.registry import MODELS
from torch import nn

from mmseg_dafm.models.backbones.sd_weights import load_unet, load_vae_encoder
from mmseg_dafm.models.backbones.vpd_official import convert_vpd_checkpoint
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


def build(**kwargs):
    names = [str(i) for i in range(CLASSES)]
    return MODELS.build(
        dict(
            type='VPDBackbone', architecture=dict(unet=UNET, vae=VAE), pretrained=None, preset='vpd_legacy',
            class_embeddings=dict(provider='hash', classes=names, dim=12), **kwargs,
        )
    )  # fmt: skip


def convert(reference):
    from mmseg_dafm.models.backbones.sd_architectures import SD15_UNET

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
    with pytest.raises(ValueError, match='broken.ckpt cannot be read as plain tensors'):
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
    from mmseg_dafm.models.backbones import sd_architectures

    monkeypatch.setitem(sd_architectures.ARCHITECTURES, 'tiny', dict(unet={**sd_architectures.SD15_UNET, **UNET}, vae=VAE))
    torch.save({'state_dict': reference.state_dict(), 'meta': dict(CLASSES=('a', 'b'))}, tmp_path / 'vpd.pth')
    converter(tmp_path / 'vpd.pth', tmp_path / 'ours.pth', '--architecture', 'tiny')
    state = torch.load(tmp_path / 'ours.pth', weights_only=True)['state_dict']
    assert build().load_state_dict({k.removeprefix('backbone.'): v for k, v in state.items()}) == ([], [])
