"""The activation of open_clip models: asked of open_clip's own table, forced where the weights need it."""

import sys
import warnings

import pytest
import torch

from mmseg_dafm.models.domain.open_clip_models import create_open_clip, needs_quick_gelu
from mmseg_dafm.models.domain.text_bank import encode_texts

open_clip = pytest.importorskip('open_clip')

WIDTH = 16


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Register a tiny architecture with two tags of the same weights, only one of them trained with QuickGELU."""
    cfg = {
        'embed_dim': 12,
        'vision_cfg': {'image_size': 32, 'layers': 1, 'width': 64, 'patch_size': 16},
        'text_cfg': {'context_length': 77, 'vocab_size': 49408, 'width': WIDTH, 'heads': 2, 'layers': 2},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, 'tiny-gelu', cfg)
    path = tmp_path / 'weights.pt'
    torch.manual_seed(0)
    model = open_clip.create_model('tiny-gelu')
    with torch.no_grad():
        # Larger activations, so that the two non-linearities differ by more than rounding.
        for block in model.transformer.resblocks:
            block.mlp.c_fc.weight.mul_(20)
    torch.save(model.state_dict(), path)
    tags = {'openai': {'url': '', 'quick_gelu': True}, 'plain': {'url': ''}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, 'tiny-gelu', tags)
    monkeypatch.setattr(open_clip.factory, 'download_pretrained', lambda *_, **__: str(path))
    return path


def activations(model):
    return {type(module).__name__ for module in model.modules() if 'GELU' in type(module).__name__}


def test_the_table_of_open_clip_is_asked():
    assert needs_quick_gelu('ViT-L-14', 'openai')
    assert needs_quick_gelu('ViT-L/14', 'openai')
    assert not needs_quick_gelu('ViT-L-14', 'laion2b_s32b_b82k')
    assert not needs_quick_gelu('ViT-L-14', 'no_such_tag')
    assert not needs_quick_gelu('no-such-model', 'openai')


def test_the_tag_decides_and_nothing_warns(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert activations(create_open_clip('tiny-gelu', 'openai')) == {'QuickGELU'}
        assert activations(create_open_clip('tiny-gelu', 'plain')) == {'GELU'}


def test_quick_gelu_can_be_asked_for(tiny):
    assert activations(create_open_clip('tiny-gelu', quick_gelu=True)) == {'QuickGELU'}
    assert activations(create_open_clip('tiny-gelu')) == {'GELU'}
    assert activations(create_open_clip('tiny-gelu', str(tiny), quick_gelu=True)) == {'QuickGELU'}
    loaded = create_open_clip('tiny-gelu', str(tiny)).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in torch.load(tiny, weights_only=True).items())


def test_text_embeddings_use_the_activation_of_their_weights(tiny):
    def pooled(**arguments):
        return encode_texts(['road', 'sky'], provider='open_clip', model='tiny-gelu', **arguments).projected

    reference = open_clip.create_model('tiny-gelu', pretrained=str(tiny), force_quick_gelu=True).eval()
    tokens = open_clip.get_tokenizer('tiny-gelu')(['a photo of a road', 'a photo of a sky'])
    with torch.no_grad():
        torch.testing.assert_close(pooled(pretrained='openai'), reference.encode_text(tokens), rtol=1e-5, atol=1e-5)
    assert (pooled(pretrained='plain') - pooled(pretrained='openai')).abs().max() > 1e-3


def test_without_open_clip_the_install_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'open_clip', None)
    with pytest.raises(ImportError, match="provider 'open_clip' needs open_clip: pip install open_clip_torch"):
        create_open_clip('ViT-L-14')
    with pytest.raises(ValueError, match="provider 'open_clip' needs open_clip: pip install open_clip_torch"):
        encode_texts(['road'], provider='open_clip', pretrained='openai')
