"""VFMBackbone: the maps of the chosen blocks, weights of every family complete or refused, nothing trained in vain."""

import copy
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.optim import build_optim_wrapper
from mmengine.runner.checkpoint import load_checkpoint
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from safetensors.torch import save_file

from mmseg_dafm.models.backbones.vfm_backbone import VFMBackbone
from tests.models.vfm_families import FAMILIES, ORIGINAL, SOURCE, TINY, settings

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/_base_'
families = pytest.mark.parametrize('family', FAMILIES)


def build(family: str, **changes) -> VFMBackbone:
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


@torch.no_grad()
def block_outputs(model, images):
    """What each block of the whole model returns, by forward hooks; patch tokens as maps."""
    seen = []
    hooks = [block.register_forward_hook(lambda _, __, out: seen.append(out)) for block in model.blocks]
    model.forward_features(images)
    for hook in hooks:
        hook.remove()
    height, width = (side // 16 for side in images.shape[-2:])
    if seen[0].ndim == 4:
        return [out.permute(0, 3, 1, 2) for out in seen]
    return [out[:, model.num_prefix_tokens :].unflatten(1, (height, width)).permute(0, 3, 1, 2) for out in seen]


@families
def test_outputs_are_the_unnormed_tokens_of_the_chosen_blocks(family, tmp_path):
    _, _, target = FAMILIES[family]
    dynamic = {} if family == 'sam' else dict(dynamic_img_size=True)
    model = published(family, {**target, **dynamic})
    torch.save(model.state_dict(), tmp_path / 'w.pth')
    backbone = build(family, out_indices=(0, 2, 3), weights=str(tmp_path / 'w.pth')).eval()
    backbone.init_weights()
    images = torch.randn(2, 3, 48, 96)
    outs = backbone(images)
    assert isinstance(outs, tuple)
    expected = block_outputs(model, images)
    for out, index in zip(outs, (0, 2, 3), strict=True):
        assert out.shape == (2, 32, 3, 6)
        torch.testing.assert_close(out, expected[index], rtol=1e-4, atol=1e-4)
    assert backbone.out_channels == (32, 32, 32)


@families
@pytest.mark.parametrize('form', ['timm', 'original'])
def test_weights_with_other_patches_and_positions_load_as_timm_itself_loads_them(family, form, tmp_path):
    """The oracle is timm's own way from a file into the whole model."""
    name, _, target = FAMILIES[family]
    state = published(family).state_dict()
    path = str(tmp_path / 'weights.safetensors')
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    if form == 'original':
        file = str(tmp_path / 'weights.pth')
        torch.save(ORIGINAL[family](dict(state)), file)
    dynamic = {} if family == 'sam' else dict(dynamic_img_size=True)
    whole = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=dict(file=path), **TINY, **target, **dynamic)
    backbone = build(family, weights=path if form == 'timm' else file)
    before = copy.deepcopy(backbone.state_dict())
    backbone.init_weights()
    expected = whole.state_dict()
    for key, value in backbone.timm_model.model.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-6)
        assert not torch.equal(value, before[f'timm_model.model.{key}'])


@families
@pytest.mark.parametrize('checkpointing', [False, True])
def test_every_trainable_parameter_gets_a_gradient(family, checkpointing):
    torch.manual_seed(0)
    plain = build(family, out_indices=(0, 2))
    backbone = build(family, out_indices=(0, 2), gradient_checkpointing=checkpointing).train()
    backbone.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 32)
    for model in (plain, backbone):
        (model(images)[-1].square().mean()).backward()
    gradients = {name: value.grad for name, value in backbone.named_parameters()}
    assert all(value.requires_grad for value in backbone.parameters())
    assert [name for name, value in gradients.items() if value is None] == []
    for name, value in plain.named_parameters():
        torch.testing.assert_close(gradients[name], value.grad)
    assert not any(part in name for name in gradients for part in ('head', 'fc_norm', 'blocks.3', 'model.norm.', 'neck'))


@families
def test_frozen_keeps_no_graph_and_stays_in_test_mode(family):
    backbone = build(family, frozen=True, drop_path_rate=0.5).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(value.requires_grad for value in backbone.parameters())
    images = torch.randn(1, 3, 64, 64, requires_grad=True)
    first, second = backbone(images), backbone(images)
    assert all(out.grad_fn is None and not out.requires_grad for out in first)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_checkpointed_blocks_keep_fewer_activations():
    def saved(checkpointing):
        count = []
        backbone = build('dinov2', gradient_checkpointing=checkpointing).train()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: count.append(x.numel()) or x, lambda x: x):
            backbone(torch.randn(1, 3, 64, 64))
        return sum(count)

    assert saved(True) < 0.5 * saved(False)


@families
def test_any_size_is_padded_on_the_right_and_below(family):
    backbone = build(family).eval()
    images = torch.randn(1, 3, 41, 70)
    padded = torch.zeros(1, 3, 48, 80)
    padded[..., :41, :70] = images
    with torch.no_grad():
        outs, expected = backbone(images), backbone(padded)
    assert outs[0].shape[-2:] == (3, 5)
    assert all(torch.equal(one, other) for one, other in zip(outs, expected, strict=True))


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


def save(tmp_path, state) -> str:
    torch.save(state, tmp_path / 'w.pth')
    return str(tmp_path / 'w.pth')


def test_init_weights_does_not_replace_what_was_loaded(tmp_path):
    path = save(tmp_path, published('dinov2').state_dict())
    backbone = build('dinov2', weights=path)
    backbone.init_weights()
    with torch.no_grad():
        backbone.timm_model.model.cls_token.fill_(7)
    backbone.init_weights()
    assert (backbone.timm_model.model.cls_token == 7).all()
    # a checkpoint that was loaded first counts as well, and so does timm's own initialiser, which must not be reached
    other = build('dinov2', weights=path)
    save_file(backbone.state_dict(), tmp_path / 'backbone.safetensors')
    torch.save({'state_dict': backbone.state_dict()}, tmp_path / 'backbone.pth')
    load_checkpoint(other, str(tmp_path / 'backbone.pth'), strict=True)
    other.init_weights()
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in backbone.state_dict().items())
    # half a state dict does not
    half = build('dinov2', weights=path)
    half.load_state_dict({'timm_model.model.cls_token': torch.zeros(1, 1, 32)}, strict=False)
    half.init_weights()
    assert (half.timm_model.model.cls_token != 0).any()


def test_mmengines_walk_reads_the_weights_and_a_segmentors_checkpoint_wins(tmp_path):
    class Segmentor(BaseModule):
        def __init__(self, init_cfg=None, **changes):
            super().__init__(init_cfg)
            self.backbone = build('clip', **changes)

    path = save(tmp_path, published('clip').state_dict())
    model = Segmentor(weights=path)
    model.init_weights()
    assert torch.equal(model.backbone.timm_model.model.norm_pre.weight, published('clip').norm_pre.weight)
    tuned = {key: value + 1 for key, value in model.state_dict().items()}
    torch.save({'state_dict': tuned}, tmp_path / 'segmentor.pth')
    checkpoint = dict(type='Pretrained', checkpoint=str(tmp_path / 'segmentor.pth'))
    whole = Segmentor(weights=path, init_cfg=checkpoint)
    part = Segmentor(pretrained=True)
    part.backbone.init_cfg = dict(checkpoint, prefix='backbone.')
    for other in (whole, part):
        other.init_weights()
        assert all(torch.equal(value, tuned[key]) for key, value in other.state_dict().items())


def test_pruned_blocks_and_heads_are_left_over_and_logged(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('mmseg_dafm.models.backbones.vfm_backbone.print_log', lambda line, *_: lines.append(line))
    backbone = build('dinov2', out_indices=(0, 1), weights=save(tmp_path, published('dinov2').state_dict()))
    assert len(backbone.timm_model.model.blocks) == 2
    backbone.init_weights()
    assert len(lines) == 1
    assert lines[0].startswith('VFMBackbone: all 32 tensors from weights=')
    assert lines[0].endswith('left over: blocks.2 (14), blocks.3 (14), norm (2)')


def test_a_string_as_pretrained_is_a_file_as_mmseg_gives_it(tmp_path):
    backbone = build('mae', pretrained=save(tmp_path, published('mae').state_dict()))
    backbone.init_weights()
    assert torch.equal(backbone.timm_model.model.cls_token, published('mae').cls_token)


@pytest.mark.parametrize('changes', [dict(pretrained=False), dict(pretrained=None)])
def test_pretrained_false_reads_nothing(changes):
    backbone = build('dinov2', weights='no/such.pth', **changes)
    before = copy.deepcopy(backbone.state_dict())
    backbone.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def refused(family, state, tmp_path, text, error=ValueError, **changes):
    backbone = build(family, weights=save(tmp_path, state), **changes)
    before = copy.deepcopy(backbone.state_dict())
    with pytest.raises(error, match=text) as caught:
        backbone.init_weights()
    assert 'w.pth' in str(caught.value)
    assert '\n' not in str(caught.value)
    # nothing was copied in part
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_weights_that_do_not_cover_the_backbone_are_refused(tmp_path):
    state = published('dinov2').state_dict()
    lacking = {key: value for key, value in state.items() if not key.startswith(('blocks.1.', 'cls'))}
    refused(
        'dinov2', lacking, tmp_path, r'15 of \d+ tensors are missing \(blocks.1.attn.proj.bias, .*\), 2 are unexpected .*norm'
    )
    # everything that the backbone has is there, but it is another network
    refused('mae', state, tmp_path, r"w.pth' does not fit vit_huge.*: 0 of .* missing \(none\), 8 are unexpected \(blocks.0.ls1")
    deeper = {**state, 'blocks.4.norm1.weight': torch.ones(32)}
    refused('dinov2', deeper, tmp_path, r'1 are unexpected \(blocks.4.norm1.weight\)')
    refused('dinov2', {'features.0.weight': torch.ones(3)}, tmp_path, r'unexpected \(features.0.weight\).*set model_name')
    segmentor = {f'backbone.timm_model.model.{key}': value for key, value in state.items()}
    refused('dinov2', segmentor, tmp_path, r'unexpected \(backbone.timm_model.*whole segmentor belongs in load_from')
    refused('dinov2', state, tmp_path, r'60 have another shape: cls_token is \(1, 1, 32\), not \(1, 1, 64\)', embed_dim=64)
    refused('sam', published('sam').state_dict(), tmp_path, 'have another shape: pos_embed .* img_size', img_size=64)


def test_files_that_are_no_checkpoints_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights='no/such.pth': there is no such file; correct the path"):
        build('dinov2', weights='no/such.pth').init_weights()
    for name in ('text.pth', 'text.safetensors'):
        (tmp_path / name).write_text('<html>not found</html>')
        with pytest.raises(ValueError, match=rf"{name}' cannot be read as a checkpoint of plain tensors") as caught:
            build('dinov2', weights=str(tmp_path / name)).init_weights()
        assert '\n' not in str(caught.value)
    refused('dinov2', [1, 2], tmp_path, 'cannot be (read|converted)')
    refused('dinov2', {}, tmp_path, 'no tensors|cannot be converted')


def test_without_network_the_hub_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    backbone = build('dinov2', weights='timm')
    text = 'timm weights of vit_large_patch14_dinov2 cannot be had .* give a local file with weights='
    with pytest.raises(FileNotFoundError, match=text) as caught:
        backbone.init_weights()
    assert '\n' not in str(caught.value)


def test_options_that_make_no_sense_are_refused(monkeypatch):
    for changes, text in (
        (dict(model_name='vit_enormous'), "model_name='vit_enormous'.*Unknown model"),
        (dict(out_indices=(1, 9)), r'out_indices.*feature index 9 is out of range'),
        (dict(checkpoint_path='a.pth'), 'use weights='),
    ):
        with pytest.raises(ValueError, match=text):
            build('dinov2', **changes)
    with pytest.raises(ValueError, match='no plain ViT: use TIMMBackbone'):
        VFMBackbone('resnet18', out_indices=(0, 1), dynamic_img_size=None)
    monkeypatch.setattr('mmseg_dafm.models.backbones.vfm_backbone.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'mmseg_dafm\[vfm\]'):
        build('dinov2')


def test_source_and_target_of_the_families_differ():
    """Otherwise the resampling tests would test nothing."""
    assert all(source != target for name, (_, source, target) in FAMILIES.items() if name != 'sam')
    assert SOURCE['patch_size'] == 14


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
