"""VPDBackbone: shapes, latents, presets, freezing, weights from disk, errors."""

import copy

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from mmseg.registry import MODELS

from mmseg_dafm.models.backbones.sd_weights import SD15_UNET, resolve_architecture
from tests.models_common import CLASSES, UNET, VAE, vpd_backbone


def build(**kwargs):
    return MODELS.build(vpd_backbone(**kwargs))


@pytest.fixture
def sd_folder(tmp_path):
    """A folder in diffusers' layout with random tiny weights."""
    UNet2DConditionModel.from_config({**SD15_UNET, **UNET}).save_pretrained(tmp_path / 'unet')
    AutoencoderKL.from_config({k: v for k, v in VAE.items() if k != 'type'}).save_pretrained(tmp_path / 'vae')
    return tmp_path


@pytest.mark.parametrize('size', [(64, 128), (70, 100), (33, 65)])
def test_outputs_have_the_announced_channels_and_strides_at_any_size(size):
    backbone = build()
    outs = backbone(torch.rand(2, 3, *size) * 2 - 1)
    assert tuple(out.shape[1] for out in outs) == backbone.out_channels == (16, 22, 38, 32)
    for out, stride in zip(outs, (8, 16, 32, 64), strict=True):
        assert out.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))


def test_padding_is_mid_grey_and_cut_off_again():
    backbone = build().eval()
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    cut = image[..., :50, :40]
    padded = torch.zeros(1, 3, 64, 64)
    padded[..., :50, :40] = cut
    for out, whole in zip(backbone(cut), backbone(padded), strict=True):
        assert torch.equal(out, whole[..., : out.shape[2], : out.shape[3]])


def test_latents_are_the_posteriors_mode_times_the_scaling_factor(sd_folder):
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    posterior = AutoencoderKL.from_pretrained(sd_folder / 'vae').encode(image).latent_dist
    for preset, scale in (('default', 0.18215), ('vpd_legacy', 1.0)):
        backbone = build(pretrained=str(sd_folder), preset=preset)
        backbone.init_weights()
        assert torch.allclose(backbone.latents(image), posterior.mode() * scale, atol=1e-6)
    assert build(latent_scale=0.5).latents.scale == 0.5


def test_pretrained_weights_survive_mmengines_init_and_are_loaded_once(sd_folder):
    backbone = build(pretrained=str(sd_folder))
    backbone.init_weights()
    stored = UNet2DConditionModel.from_pretrained(sd_folder / 'unet').state_dict()
    for name, value in backbone.unet.state_dict().items():
        assert torch.equal(value, stored[name]), name
    with torch.no_grad():
        backbone.unet.conv_in.weight.zero_()
    backbone.init_weights()
    assert not backbone.unet.conv_in.weight.any()


def test_weights_of_another_architecture_are_refused(sd_folder):
    wider = {**UNET, 'block_out_channels': (32, 32, 64, 64)}
    with pytest.raises(ValueError, match='U-Net of .* does not fit the configured architecture: .* has shape'):
        build(pretrained=str(sd_folder), architecture=dict(unet=wider, vae=VAE)).init_weights()
    deeper = {**UNET, 'layers_per_block': 2}
    with pytest.raises(ValueError, match='keys are missing'):
        build(pretrained=str(sd_folder), architecture=dict(unet=deeper, vae=VAE)).init_weights()


@pytest.mark.parametrize('source', ['no/such/folder', 'no-such/hub-model'])
def test_missing_weights_give_one_sentence(source):
    with pytest.raises(FileNotFoundError, match=f"pretrained='{source}': no unet weights there"):
        build(pretrained=source).init_weights()
    with pytest.raises(FileNotFoundError, match='there is no such file'):
        build(pretrained='no/such/file.safetensors').init_weights()


def test_wrong_widths_and_options_are_refused():
    with pytest.raises(ValueError, match='class_embeddings are 8 wide and the U-Net takes 16'):
        build(class_embeddings=dict(provider='hash', classes=CLASSES, dim=8))
    with pytest.raises(ValueError, match='makes 8 latent channels and the U-Net takes 4'):
        build(architecture=dict(unet=UNET, vae={**VAE, 'latent_channels': 8}))
    for levels in ((), (1, 2, 3)):
        with pytest.raises(ValueError, match='map_levels=.* must be some of 0, 1 and 2'):
            build(map_levels=levels)
    for key, value in (('preset', 'x'), ('fuse', 'x'), ('architecture', 'sd9')):
        with pytest.raises(ValueError, match=f"{key}='{value}|{key}="):
            build(**{key: value})
    with pytest.raises(ValueError, match='exactly the keys unet and vae'):
        build(architecture=dict(unet=UNET))


def test_imagenet_normalised_input_is_refused_once_and_clearly():
    backbone = build()
    with pytest.raises(ValueError, match=r'images in \[-1, 1\], got \[-2.00, 2.00\].*127.5'):
        backbone(torch.linspace(-2, 2, 3 * 64 * 64).view(1, 3, 64, 64))


def test_the_config_is_not_changed_by_building():
    cfg = vpd_backbone(fuse='sub', domain_channels=12)
    before = copy.deepcopy(cfg)
    MODELS.build(cfg)
    MODELS.build(cfg)
    assert cfg == before


@pytest.mark.parametrize('fuse', ['none', 'add', 'sub', 'token'])
@pytest.mark.parametrize('checkpointing', [False, True])
def test_every_trainable_parameter_gets_a_gradient(fuse, checkpointing):
    backbone = build(fuse=fuse, domain_channels=12, gradient_checkpointing=checkpointing)
    domain = torch.randn(2, 12) if fuse != 'none' else None
    sum(out.square().mean() for out in backbone(torch.rand(2, 3, 64, 64) * 2 - 1, domain)).backward()
    without = [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert not any(p.requires_grad for p in backbone.latents.parameters())


def test_a_frozen_unet_lets_the_text_adapter_learn_through_it():
    backbone = build(frozen=True).train()
    sum(out.square().mean() for out in backbone(torch.rand(1, 3, 64, 64) * 2 - 1)).backward()
    assert all(p.grad is None for p in backbone.unet.parameters())
    assert not backbone.unet.training
    assert backbone.text_adapter.mlp[0].weight.grad.abs().sum() > 0


def test_map_grad_switches_the_gradient_through_the_maps():
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    for map_grad in (True, False):
        backbone = build(map_grad=map_grad)
        maps = backbone(images)[1][:, -len(CLASSES) :]
        maps.square().sum().backward()
        assert bool(backbone.unet.conv_in.weight.grad.abs().sum() > 0) == map_grad
    assert not build(preset='vpd_legacy').map_grad


def test_the_vae_can_stay_out_of_checkpoints_and_comes_back(sd_folder):
    backbone = build(pretrained=str(sd_folder), save_frozen=False)
    backbone.init_weights()
    state = backbone.state_dict()
    assert not any(key.startswith('latents.') for key in state)
    fresh = build(pretrained=str(sd_folder), save_frozen=False)
    assert fresh.load_state_dict(state) == ([], [])
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    assert all(torch.equal(a, b) for a, b in zip(fresh(images), backbone(images), strict=True))
    copied = copy.deepcopy(build(pretrained=str(sd_folder), save_frozen=False))  # as EMAHook makes one
    assert copied.load_state_dict(state) == ([], [])
    assert all(torch.equal(a, b) for a, b in zip(copied(images), backbone(images), strict=True))
    with pytest.raises(ValueError, match='save_frozen=False needs pretrained weights'):
        build(save_frozen=False)


def test_only_the_encoder_of_the_vae_is_kept_and_the_output_layers_are_gone():
    names = [name for name, _ in build().named_parameters()]
    assert not any(
        'decoder' in name or 'post_quant' in name or '.conv_out' in name.removeprefix('latents')
        for name in names
        if 'unet' in name
    )
    assert not any('decoder' in name for name in names)


def test_a_tiny_autoencoder_serves_too(tmp_path):
    vae = dict(
        type='AutoencoderTiny', latent_channels=4, encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4
    )
    library = AutoencoderTiny.from_config({k: v for k, v in vae.items() if k != 'type'})
    library.save_pretrained(tmp_path / 'vae')
    backbone = build(architecture=dict(unet=UNET, vae=vae), pretrained=dict(vae=str(tmp_path)))
    backbone.init_weights()
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    assert torch.allclose(backbone.latents(images), library.encode(images).latents, atol=1e-6)


def test_taef2_latents_decode_back_to_the_image(shared):
    """The architecture of TinyEncoder is right: the published decoder undoes it on a real photograph."""
    import cv2
    from torch import nn

    from mmseg_dafm.models.backbones.latents import LatentEncoder, PooledBlock

    source = str(shared / 'weights/taef2_encoder.pth')
    encoder = LatentEncoder(dict(type='TinyEncoder', latent_channels=32), source=source)
    encoder.init_weights()
    state = torch.load(shared / 'weights/taef2_decoder.pth', weights_only=True)
    layers = {}
    for index in range(20):
        keys = {k.split('.', 1)[1]: v for k, v in state.items() if k.startswith(f'{index}.')}
        if any(k.startswith('conv.') for k in keys):
            layers[index] = PooledBlock(64, any(k.startswith('pool') for k in keys))
        elif keys:
            out, inner = keys['weight'].shape[:2]
            layers[index] = nn.Conv2d(inner, out, 3, padding=1, bias='bias' in keys)
    kinds = [layers.get(i) or (nn.ReLU() if i == 2 else nn.Upsample(scale_factor=2)) for i in range(1, 20)]
    decoder = nn.Sequential(*kinds)
    decoder.load_state_dict({f'{int(k.split(".")[0]) - 1}.{k.split(".", 1)[1]}': v for k, v in state.items()})
    path = min((shared / 'data/camvid/img_dir/day_0016E5').iterdir())
    image = torch.from_numpy(cv2.imread(str(path))[:128, :192, ::-1].copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        latents = encoder(image * 2 - 1)
        decoded = decoder(torch.tanh(latents / 3) * 3)
    error = (decoded - image).square().mean()
    assert -10 * error.log10() > 20, 'peak signal-to-noise ratio in dB'


@pytest.mark.parametrize('name', ['sd1.5', 'sd2.1'])
def test_full_size_architectures_build_on_the_meta_device(name):
    embeddings = dict(provider='hash', classes='CityscapesDataset', dim=768 if name == 'sd1.5' else 1024)
    with torch.device('meta'):
        backbone = MODELS.build(dict(type='VPDBackbone', architecture=name, class_embeddings=embeddings))
    assert backbone.out_channels == (320, 659, 1299, 1280)
    unet = sum(p.numel() for p in backbone.unet.parameters())
    vae = sum(p.numel() for p in backbone.latents.parameters())
    assert vae == 34_163_664
    if name == 'sd1.5':
        assert unet == 859_520_964 - 12_164  # the output layers are dropped
    assert resolve_architecture(name)['vae']['scaling_factor'] == 0.18215


@pytest.mark.slow
def test_the_backbone_compiles_without_a_graph_break():
    backbone = build(fuse='sub', domain_channels=12, gradient_checkpointing=True)
    images, domain = torch.rand(2, 3, 64, 64) * 2 - 1, torch.randn(2, 12)
    expected = backbone(images, domain)
    outs = torch.compile(backbone, fullgraph=True, backend='aot_eager')(images, domain)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(outs, expected, strict=True))
    sum(out.mean() for out in outs).backward()


def test_bf16_autocast_runs_forward_and_backward():
    backbone = build(fuse='add', domain_channels=12)
    with torch.autocast('cpu', torch.bfloat16):
        outs = backbone(torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 12))
        loss = sum(out.float().square().mean() for out in outs)
    loss.backward()
    assert all(torch.isfinite(out).all() for out in outs)
    assert torch.isfinite(backbone.unet.conv_in.weight.grad).all()


def test_latents_in_bfloat16_are_close_and_come_back_in_the_callers_dtype():
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    exact, fast = build(), build(latent_dtype='bfloat16')
    fast.load_state_dict(exact.state_dict())
    wanted, found = exact.latents(images), fast.latents(images)
    assert found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    assert torch.allclose(found, wanted, atol=0.03 * wanted.abs().max())
    with pytest.raises(ValueError, match="latent_dtype='float16' is unknown"):
        build(latent_dtype='float16')


def test_a_checkpoint_of_other_classes_is_refused_and_other_embeddings_are_reported(caplog):
    state = build().state_dict()
    with pytest.raises(ValueError, match='holds embeddings of 6 classes, 16 wide, and the config names 2'):
        build(class_embeddings=dict(provider='hash', classes=('a', 'b'), dim=16)).load_state_dict(state)
    other = build(class_embeddings=dict(provider='hash', classes=CLASSES, dim=16, scale=2.0))
    other.load_state_dict(state)
    assert torch.equal(other.class_embeddings, state['class_embeddings'])
