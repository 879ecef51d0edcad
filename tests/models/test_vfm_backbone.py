"""VFMBackbone: the maps of the chosen blocks, weights of every family complete or refused, nothing trained in vain."""

import pytest
import torch

from mmseg_dafm.models.backbones.vfm_backbone import VFMBackbone
from tests.models.vfm_families import FAMILIES, build, published

families = pytest.mark.parametrize('family', FAMILIES)


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
