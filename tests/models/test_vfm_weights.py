"""Weights of every family of foundation models: resampled by timm, complete or refused, never overwritten."""

import copy

import pytest
import timm
import torch
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import load_checkpoint
from safetensors.torch import save_file

from tests.models.vfm_families import FAMILIES, ORIGINAL, SOURCE, TINY, build, published

families = pytest.mark.parametrize('family', FAMILIES)


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


def test_source_and_target_of_the_families_differ():
    """Otherwise the resampling tests would test nothing."""
    assert all(source != target for name, (_, source, target) in FAMILIES.items() if name != 'sam')
    assert SOURCE['patch_size'] == 14


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
