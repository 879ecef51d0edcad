"""Each adapter against its equation, written out slowly in float64, on every family that it fits."""

import copy
import math

import pytest
import torch

from mmseg_dafm.models.adapters.rein import refinement
from mmseg_dafm.models.adapters.vqt import read_out
from tests.models.test_adapters import plain_and_adapted
from tests.models.vfm_families import FAMILIES, build

families = pytest.mark.parametrize('family', FAMILIES)
sequences = pytest.mark.parametrize('family', [family for family in FAMILIES if family != 'sam'])
IMAGES = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def in_float64(family, kind, **changes):
    return tuple(model.double() for model in plain_and_adapted(family, kind, **changes))


def assert_maps(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@families
@torch.no_grad()
def test_lora_is_the_plain_backbone_with_merged_matrices(family):
    pytest.importorskip('peft')
    plain, adapted = in_float64(family, 'LoRA')
    state = adapted.state_dict()
    count = 0
    for key in [key for key in state if '.lora_A.' in key]:
        target = key.replace('lora_A.default.weight', 'weight')
        plain.get_parameter(target).add_(state[key.replace('lora_A', 'lora_B')] @ state[key])
        count += 1
    assert count == (8 if family == 'eva02' else 4)
    assert_maps(adapted(IMAGES), plain(IMAGES))


@torch.no_grad()
def test_lora_scales_by_alpha_over_rank_and_reaches_a_fused_matrix_with_biases_of_its_own():
    pytest.importorskip('peft')
    eva = dict(model_name='eva02_tiny_patch14_224.mim_in22k', adapter=dict(type='LoRA', rank=2, alpha=3.0))
    plain = build('eva02', model_name=eva['model_name']).double().eval()
    adapted = build('eva02', **eva).double().eval()
    assert plain.timm_model.model.blocks[0].attn.q_bias is not None
    adapted.load_state_dict(plain.state_dict(), strict=False)
    assert_maps(adapted(IMAGES), plain(IMAGES))
    for index, block in enumerate(adapted.timm_model.model.blocks):
        layer = block.attn.qkv
        up, down = layer.lora_B['default'].weight, layer.lora_A['default'].weight
        up.normal_()
        plain.timm_model.model.blocks[index].attn.qkv.weight.add_(1.5 * up @ down)
    assert_maps(adapted(IMAGES), plain(IMAGES))


@sequences
@torch.no_grad()
def test_vpt_is_the_plain_backbone_on_sequences_with_prompts(family):
    """The oracle puts them at the end, where attention does not care, and extends the rotary table by rotations by 0."""
    plain, adapted = in_float64(family, 'VPT')
    prompts = adapted.adapter.prompts

    def insert(index):
        def hook(block, args, kwargs):
            tokens = torch.cat([args[0], prompts[index].expand(len(args[0]), -1, -1)], 1)
            rope = kwargs.get('rope')
            if rope is not None:
                half = rope.shape[-1] // 2
                still = torch.cat([torch.zeros(len(prompts[index]), half), torch.ones(len(prompts[index]), half)], -1)
                kwargs = dict(kwargs, rope=torch.cat([rope, still.to(rope)]))
            return (tokens, *args[1:]), kwargs

        return hook

    for index, block in enumerate(plain.timm_model.model.blocks):
        block.register_forward_pre_hook(insert(index), with_kwargs=True)
        block.register_forward_hook(lambda block, args, out: out[:, : out.shape[1] - prompts.shape[1]])
    assert_maps(adapted(IMAGES), plain(IMAGES))


@families
@torch.no_grad()
def test_adaptformer_adds_the_bottleneck_of_the_normed_tokens_to_each_block(family):
    plain, adapted = in_float64(family, 'AdaptFormer')
    for block, bottleneck in zip(plain.timm_model.model.blocks, adapted.adapter.blocks, strict=True):
        middle = []
        block.norm2.register_forward_pre_hook(lambda norm, args, middle=middle: middle.append(args[0]))

        def add(block, args, out, middle=middle, bottleneck=bottleneck):
            x = middle.pop()
            mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
            x = (x - mean) / (var + block.norm2.eps).sqrt() * block.norm2.weight + block.norm2.bias
            hidden = (x @ bottleneck.down.weight.T + bottleneck.down.bias).clamp(min=0)
            return out + 0.1 * (hidden @ bottleneck.up.weight.T + bottleneck.up.bias).view(out.shape)

        block.register_forward_hook(add)
    assert_maps(adapted(IMAGES), plain(IMAGES))


def record(backbone, outputs, inputs):
    for block in backbone.timm_model.model.blocks:
        block.register_forward_pre_hook(lambda block, args, kwargs: inputs.append((args[0], kwargs)), with_kwargs=True)
        block.register_forward_hook(lambda block, args, out: outputs.append(out))


@sequences
@torch.no_grad()
def test_vqt_leaves_the_tokens_and_its_summaries_are_those_of_masked_attention(family):
    """The oracle runs timm's whole block on queries and tokens together, with all keys of queries masked."""
    plain, adapted = in_float64(family, 'VQT', out_indices=(0, 2, 3))
    expected, inputs, found, _ = [], [], [], []
    record(plain, expected, inputs)
    record(adapted, found, _)
    maps, adapted_maps = plain(IMAGES), adapted(IMAGES)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    summaries = {}
    for index in (1, 2, 3):
        block = copy.deepcopy(plain.timm_model.model.blocks[index])
        block._forward_hooks.clear()
        block._forward_pre_hooks.clear()
        block._forward_pre_hooks_with_kwargs.clear()
        tokens, kwargs = inputs[index]
        queries = adapted.adapter.prompts[index - 1].expand(len(tokens), -1, -1)
        count = queries.shape[1]
        if hasattr(block.attn, 'num_prefix_tokens'):
            block.attn.num_prefix_tokens += count
        size = count + tokens.shape[1]
        mask = torch.ones(size, size, dtype=torch.bool)
        mask[:, :count] = False
        # the queries' rows see no query, and the tokens' rows neither
        rest = {key: value for key, value in kwargs.items() if key == 'rope'}
        summaries[index] = block(torch.cat([queries, tokens], 1), attn_mask=mask, **rest)[:, :count]
    assert torch.equal(adapted_maps[0], maps[0]), 'no query comes before block 0'
    joined = (torch.cat([summaries[1], summaries[2]], 1), summaries[3])
    for features, own, out in zip(maps[1:], joined, adapted_maps[1:], strict=True):
        torch.testing.assert_close(out, slow_read_out(features, own), rtol=1e-8, atol=1e-8)


def slow_read_out(maps, summaries):
    norm = lambda x: (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()  # noqa: E731
    out = maps.clone()
    for b, y, x in torch.cartesian_prod(*map(torch.arange, (maps.shape[0], *maps.shape[2:]))).tolist():
        cell = maps[b, :, y, x]
        fits = [math.exp(float(norm(cell) @ norm(own)) / math.sqrt(len(cell))) for own in summaries[b]]
        out[b, :, y, x] = cell + sum(fit / sum(fits) * own for fit, own in zip(fits, summaries[b], strict=True))
    return out


def test_read_out_keeps_shapes_and_is_a_mean_where_all_fit_alike():
    maps, summaries = torch.randn(2, 8, 3, 4), torch.randn(1, 1, 8).expand(2, 5, 8)
    torch.testing.assert_close(read_out(maps, summaries), maps + summaries[0, 0, :, None, None])


@families
@torch.no_grad()
def test_rein_refines_the_patch_tokens_after_each_block(family):
    plain, adapted = in_float64(family, 'Rein')
    rein, prefix = adapted.adapter, getattr(plain.timm_model.model, 'num_prefix_tokens', 0)
    weight = {name: value.detach() for name, value in rein.named_parameters()}

    def delta(f, tokens):
        fits = torch.stack([(f * token).sum() / math.sqrt(len(f)) for token in tokens])
        shares = fits.exp() / fits.exp().sum()
        moved = torch.zeros_like(f)
        # the first token takes a share and adds nothing
        for share, token in list(zip(shares, tokens, strict=True))[1:]:
            moved += share * (weight['to_feature.weight'] @ token + weight['to_feature.bias'])
        return weight['to_delta.weight'] @ (moved + f) + weight['to_delta.bias']

    for index, block in enumerate(plain.timm_model.model.blocks):

        def refine(block, args, out, index=index):
            tokens, out = weight['left'][index] @ weight['right'][index], out.clone()
            sequence = out.view(len(out), -1, out.shape[-1])
            for b in range(len(out)):
                for n in range(prefix, sequence.shape[1]):
                    sequence[b, n] = sequence[b, n] + weight['scale'] * delta(sequence[b, n].clone(), tokens)
            return out

        block.register_forward_hook(refine)
    assert_maps(adapted(IMAGES), plain(IMAGES))


def test_a_feature_that_fits_the_first_token_takes_nothing_from_the_others():
    tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    feature = torch.tensor([[1e3, 0.0]])
    same = torch.nn.Identity()
    torch.testing.assert_close(refinement(feature, tokens, same, same), feature)
    torch.testing.assert_close(refinement(feature.flip(-1), tokens, same, same), torch.tensor([[0.0, 1e3 + 1]]))


def test_reins_queries_join_the_largest_the_mean_and_the_last():
    rein = build('mae', adapter=dict(type='Rein', tokens=4, rank=2, query_channels=6)).adapter.double()
    each = [(rein.left[i] @ rein.right[i]) @ rein.to_query.weight.T + rein.to_query.bias for i in range(4)]
    joined = torch.cat([torch.stack(each).max(0).values, sum(each) / 4, each[3]], 1)
    torch.testing.assert_close(rein.object_queries(), joined @ rein.merge.weight.T + rein.merge.bias)
    assert rein.object_queries().shape == (4, 6)


def test_prompts_have_vpts_spread_and_so_have_reins_tokens():
    bound = math.sqrt(6 / (3 * 16 * 16 + 32))
    torch.manual_seed(0)
    prompts = build('mae', adapter=dict(type='VPT', tokens=400)).adapter.prompts
    assert 0.98 * bound < prompts.abs().max() <= bound
    rein = build('mae', adapter=dict(type='Rein', tokens=400, rank=16)).adapter
    assert float((rein.left @ rein.right).detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
