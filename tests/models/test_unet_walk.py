"""The walk equals diffusers' forward, its maps equal recorded attention, and checkpointing and compilation change nothing."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from mmseg_dafm.models.backbones.sd_weights import SD15_UNET
from mmseg_dafm.models.backbones.unet_walk import check_unet, cross_attention, walk_unet

SMALL = dict(block_out_channels=(16, 16, 32, 32), cross_attention_dim=12, norm_num_groups=4, sample_size=8)
FAMILIES = {
    'sd1': dict(layers_per_block=2, attention_head_dim=2),
    'sd2': dict(layers_per_block=1, attention_head_dim=(2, 2, 4, 4), use_linear_projection=True, upcast_attention=True),
}


def unet(family: str = 'sd1', dtype: torch.dtype = torch.float64) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_config({**SD15_UNET, **SMALL, **FAMILIES[family]}).to(dtype)


def inputs(size=(16, 24), dtype=torch.float64):
    return torch.randn(2, 4, *size, dtype=dtype), torch.randn(2, 5, 12, dtype=dtype)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('size', [(16, 16), (16, 24), (15, 21)])
def test_walk_equals_the_librarys_forward(family, size):
    net, (latents, context) = unet(family), inputs(size)
    check_unet(net)
    expected = net(latents, torch.tensor([7, 7]), context).sample
    features, _ = walk_unet(net, latents, 7, context)
    assert torch.allclose(net.conv_out(net.conv_act(net.conv_norm_out(features[0]))), expected, atol=1e-12)
    height, width = size
    for level, feature in enumerate(features):
        assert feature.shape[1] == SMALL['block_out_channels'][level]
        assert feature.shape[2:] == (-(-height // 2**level), -(-width // 2**level))


class Recorder:
    """An attention processor that writes every cross-attention map down: the oracle, by the definition."""

    def __init__(self, found, name):
        self.found, self.name = found, name

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        heads = []
        for head in range(attn.heads):
            part = slice(head * hidden_states.shape[-1] // attn.heads, (head + 1) * hidden_states.shape[-1] // attn.heads)
            query, key = attn.to_q(hidden_states)[..., part], attn.to_k(context)[..., part]
            probs = torch.softmax(query @ key.mT / (part.stop - part.start) ** 0.5, -1)
            heads.append((probs, probs @ attn.to_v(context)[..., part]))
        if encoder_hidden_states is not None:
            self.found[self.name] = sum(probs for probs, _ in heads) / attn.heads
        return attn.to_out[0](torch.cat([out for _, out in heads], -1))


@pytest.mark.parametrize('family', FAMILIES)
def test_maps_are_the_mean_over_heads_and_layers_of_the_up_and_down_path(family):
    net, (latents, context) = unet(family), inputs((16, 24))
    _, maps = walk_unet(net, latents, 1, context, map_levels=(0, 1, 2))
    found = {}
    net.set_attn_processor({name: Recorder(found, name) for name in net.attn_processors})
    net(latents, 1, context)
    layers = FAMILIES[family]['layers_per_block']
    for level, size in ((0, (16, 24)), (1, (8, 12)), (2, (4, 6))):
        wanted = [p for name, p in found.items() if name.startswith((f'down_blocks.{level}.', f'up_blocks.{3 - level}.'))]
        assert len(wanted) == 2 * layers + 1  # five per level in SD-1.5
        mean = (sum(wanted) / len(wanted)).mT.reshape(2, 5, *size)
        assert torch.allclose(maps[level], mean, atol=1e-12)
        assert (maps[level] >= 0).all()
        assert torch.allclose(maps[level].sum(1), torch.ones(2, *size, dtype=torch.float64))


def loss_of(net, latents, context, checkpointing):
    features, maps = walk_unet(net, latents, 1, context, gradient_checkpointing=checkpointing)
    return sum(f.square().mean() for f in features) + sum((m * m).sum() for m in maps.values())


def test_checkpointing_gives_identical_gradients_through_features_and_maps():
    net, (latents, context) = unet(), inputs()
    grads = []
    for checkpointing in (False, True):
        net.zero_grad()
        leaf = context.clone().requires_grad_()
        loss_of(net, latents, leaf, checkpointing).backward()
        grads.append([leaf.grad] + [p.grad for n, p in net.named_parameters() if not n.startswith(('conv_norm_out', 'conv_out'))])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize('checkpointing', [False, True])
def test_the_walk_compiles_without_a_graph_break(checkpointing):
    net, (latents, context) = unet(dtype=torch.float32), inputs(dtype=torch.float32)
    net.requires_grad_(True)
    compiled = torch.compile(loss_of, fullgraph=True, backend='aot_eager')
    expected = loss_of(net, latents, context, False)
    result = compiled(net, latents, context, checkpointing)
    assert torch.allclose(result, expected, rtol=1e-5)
    result.backward()
    assert net.conv_in.weight.grad.abs().sum() > 0


def test_a_shift_of_all_tokens_leaves_the_first_map_and_shifts_the_output_by_a_constant():
    """The exact consequence of adding one W to every class token: no re-weighting, a channel bias."""
    net = unet()
    attn = net.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    hidden, context = torch.randn(2, 30, 16, dtype=torch.float64), torch.randn(2, 5, 12, dtype=torch.float64)
    shift = torch.randn(2, 1, 12, dtype=torch.float64)
    out, probs = cross_attention(attn, hidden, context)
    shifted_out, shifted_probs = cross_attention(attn, hidden, context - shift)
    assert torch.allclose(shifted_probs, probs, atol=1e-13)
    constant = attn.to_v(-shift) @ attn.to_out[0].weight.T
    assert torch.allclose(shifted_out - out, constant.expand_as(out), atol=1e-13)


def test_other_unets_are_refused():
    config = {**SD15_UNET, **SMALL, 'down_block_types': ('DownBlock2D',) * 2, 'up_block_types': ('UpBlock2D',) * 2}
    config['block_out_channels'] = (16, 16)
    with pytest.raises(ValueError, match='4 down and 4 up blocks'):
        check_unet(UNet2DConditionModel.from_config(config))
    with pytest.raises(ValueError, match='has 2 transformer layers'):
        check_unet(UNet2DConditionModel.from_config({**SD15_UNET, **SMALL, 'transformer_layers_per_block': 2}))
    with pytest.raises(ValueError, match='class_embed_type'):
        check_unet(UNet2DConditionModel.from_config({**SD15_UNET, **SMALL, 'class_embed_type': 'timestep'}))
