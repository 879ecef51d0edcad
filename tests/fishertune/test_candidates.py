"""Candidates of each architecture, counted by hand."""

import pytest
import timm
import torch
import transformers
from diffusers import UNet2DConditionModel
from mmseg.models.backbones import MixVisionTransformer, SwinTransformer, VisionTransformer
from torch import nn

from mmseg_dafm.fishertune.candidates import Rule, block_paths, candidate_tensors, find_candidates, parameter_count
from mmseg_dafm.fishertune.feature_shift import default_positions, prefix_tokens

TINY = dict(depth=2, embed_dim=32, num_heads=2, num_classes=0)


def kinds(backbone, **options):
    """Weights of each kind."""
    found = {}
    tensors = candidate_tensors(backbone, candidates := find_candidates(backbone, **options))
    for c in candidates:
        found[c.kind] = found.get(c.kind, 0) + (c.rows[1] - c.rows[0]) * tensors[c.parameter][0].numel()
    return found


@pytest.mark.parametrize('name', ['vit_small_patch14_dinov2', 'vit_small_patch14_reg4_dinov2', 'vit_small_patch16_dinov3',
                                  'vit_base_patch16_clip_224', 'vit_base_patch16_224.mae'])  # fmt: skip
def test_timm_vits(name):
    vit = timm.create_model(name, **TINY)
    assert kinds(vit) == dict(q=2 * 32 * 32, k=2 * 32 * 32, v=2 * 32 * 32, ffn=2 * 2 * 32 * 128)
    assert block_paths(find_candidates(vit)) == ['blocks.0', 'blocks.1']


def test_swiglu_and_separate_projections():
    eva = timm.create_model('eva02_large_patch14_224', **TINY)
    hidden = eva.blocks[0].mlp.fc2.in_features
    assert kinds(eva) == dict(q=2048, k=2048, v=2048, ffn=2 * 3 * 32 * hidden)
    giant = timm.create_model('vit_giant_patch14_dinov2', **TINY)
    assert kinds(giant)['ffn'] == sum(p.numel() for n, p in giant.named_parameters() if '.mlp.' in n and n.endswith('weight'))


def test_sam_and_mmseg_and_multihead_attention():
    sam = timm.create_model('samvit_base_patch16', depth=2, embed_dim=32, num_heads=2, global_attn_indexes=(1,))
    assert kinds(sam)['q'] == 2048
    ours = VisionTransformer(img_size=32, num_layers=2, embed_dims=32, num_heads=2, mlp_ratio=4)
    assert kinds(ours) == dict(q=2048, k=2048, v=2048, ffn=2 * 2 * 32 * 128)
    plain = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 2, 64), 2)
    assert kinds(plain) == dict(q=2048, k=2048, v=2048, ffn=2 * 2 * 32 * 64)


def test_unet_of_diffusers():
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 32), down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'), cross_attention_dim=24, attention_head_dim=4, layers_per_block=1,
    )  # fmt: skip
    found = kinds(unet)
    assert found['q'] == found['k'] * 2 * 32 // (32 + 24)
    assert found['ffn'] == sum(p.numel() for n, p in unet.named_parameters() if '.ff.net' in n and n.endswith('weight'))
    assert all('transformer_blocks' in path for path in block_paths(find_candidates(unet)))


def test_vit_large_is_the_papers_budget():
    with torch.device('meta'):
        vit = timm.create_model('vit_large_patch14_dinov2', img_size=512, patch_size=16, num_classes=0)
    # 15.21 M of the printed 304.20 M; timm has no mask token of 1,024
    assert parameter_count(vit) + 1024 == 304_199_680
    assert sum(kinds(vit).values()) == 276_824_064
    assert default_positions(24) == ('embedding', 7, 11, 15)


def test_rows_of_a_fused_projection():
    vit = timm.create_model('vit_tiny_patch16_224', **TINY)
    rows = {c.kind: c.rows for c in find_candidates(vit) if c.parameter == 'blocks.1.attn.qkv.weight'}
    assert rows == dict(q=(0, 32), k=(32, 64), v=(64, 96))


def test_options():
    vit = timm.create_model('vit_tiny_patch16_224', **TINY)
    assert set(kinds(vit, kinds=['v'])) == {'v'}
    assert kinds(vit, include_bias=True)['q'] == 2 * (32 * 32 + 32)
    with pytest.raises(ValueError, match="kinds='qk' must be a list"):
        find_candidates(vit, kinds='qk')
    with pytest.raises(ValueError, match="\\['o'\\] must be a list"):
        find_candidates(vit, kinds=['o'])


def test_a_rule_of_ones_own_and_no_candidates():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixer = nn.Linear(4, 12)

    net = nn.Sequential(nn.Conv2d(3, 3, 1))
    net.layers = nn.ModuleList([Block()])
    with pytest.raises(ValueError, match=r"called \['0.weight', 'layers.0.mixer.weight'\]: add a rule"):
        find_candidates(net)
    for rule in (Rule(r'mixer\.{leaf}', ('q', 'k', 'v')), dict(tail=r'mixer\.{leaf}', parts=['q', 'k', 'v'])):
        found = find_candidates(net, ['q', 'k', 'v'], extra_rules=[rule])
        assert [c.rows for c in found] == [(0, 4), (4, 8), (8, 12)]
    with pytest.raises(ValueError, match='do not split into 5 equal parts'):
        find_candidates(net, extra_rules=[Rule(r'mixer\.{leaf}', ('q', 'k', 'v', 'q', 'k'))])
    with pytest.raises(ValueError, match='a rule of extra_rules is dict'):
        find_candidates(net, extra_rules=[dict(name='mixer')])
    # no feed-forward weights, which the default kinds want
    with pytest.raises(ValueError, match=r"no weights of the kinds \['ffn'\] in layers.0"):
        find_candidates(net, extra_rules=[Rule(r'mixer\.{leaf}', ('q', 'k', 'v'))])


class HalfKnown(nn.Module):
    """A block whose feed-forward weights have a name that no rule knows."""

    def __init__(self):
        super().__init__()
        self.attn = nn.ModuleDict(dict(qkv=nn.Linear(4, 12)))
        self.expert = nn.Linear(4, 8)


def test_architectures_that_are_known_by_half_are_refused():
    half = nn.ModuleDict(dict(blocks=nn.ModuleList([HalfKnown()])))
    with pytest.raises(ValueError, match=r"no weights of the kinds \['ffn'\] in blocks.0"):
        find_candidates(half)
    assert set(kinds(half, kinds=['q', 'k', 'v'])) == {'q', 'k', 'v'}
    assert set(kinds(SwinTransformer(depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), embed_dims=8))) == {'q', 'k', 'v', 'ffn'}


def test_segformer_and_pvt():
    """Feed-forward matrices that are 1x1 convolutions; keys and values in one tensor; reduced keys are no candidates."""
    segformer = MixVisionTransformer(num_layers=[1, 1, 1, 1], embed_dims=8, num_heads=[1, 2, 5, 8])
    widths = (8, 16, 40, 64)
    expected = dict.fromkeys('qkv', sum(w * w for w in widths))
    assert kinds(segformer) == dict(expected, ffn=sum(2 * 4 * w * w for w in widths))
    # the bias of the depthwise convolution between the matrices is none of theirs
    assert kinds(segformer, kinds=['ffn'], include_bias=True)['ffn'] == sum(8 * w * w + 5 * w for w in widths)
    pvt = timm.create_model('pvt_v2_b0', embed_dims=(8, 16, 40, 64), num_heads=(1, 2, 5, 8), depths=(1, 1, 1, 1), num_classes=0)
    ratios = (8, 8, 4, 4)
    assert kinds(pvt) == dict(expected, ffn=sum(2 * r * w * w for r, w in zip(ratios, widths, strict=True)))


def test_convolutional_blocks_of_hybrids_lack_nothing():
    edgenext = timm.create_model('edgenext_xx_small', num_classes=0)
    found = find_candidates(edgenext)
    attending = {c.path for c in found if c.kind == 'q'}
    assert 0 < len(attending) < len({c.path for c in found if c.kind == 'ffn'})
    assert kinds(edgenext)['q'] == kinds(edgenext)['v']


def test_a_convolutional_network_is_called_one():
    with pytest.raises(ValueError, match='ResNet is a convolutional network .* use a transformer backbone.$'):
        find_candidates(timm.create_model('resnet18', num_classes=0))
    with pytest.raises(ValueError, match=r"ConvNeXt is a convolutional network .*: kinds=\['ffn'\] takes"):
        find_candidates(timm.create_model('convnext_atto', num_classes=0))
    assert set(kinds(timm.create_model('convnext_atto', num_classes=0), kinds=['ffn'])) == {'ffn'}


@pytest.mark.parametrize(
    ('rules', 'message'),
    [
        ('attn', 'must be a list of dict'),
        (dict(tail='x', parts=['q']), 'must be a list of dict'),
        (['attn'], "a rule of extra_rules is dict\\(tail=..., parts=...\\), got 'attn'"),
        ([dict(tail='x', parts='q')], "must be a list out of .* got 'q'"),
        ([dict(tail='(', parts=['q'])], 'is no regular expression'),
    ],
)
def test_rules_that_are_none(rules, message):
    with pytest.raises(ValueError, match=message):
        find_candidates(timm.create_model('vit_tiny_patch16_224', **TINY), extra_rules=rules)


def test_groups_beyond_the_last_block_are_refused():
    vit = timm.create_model('vit_tiny_patch16_224', **TINY)
    with pytest.raises(ValueError, match='names blocks that do not exist: this backbone has blocks 0 to 1'):
        find_candidates(vit, groups=['q:0-99'])


@pytest.mark.parametrize('name', ['ViT', 'Dinov2', 'CLIPVision'])
def test_hugging_face(name):
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16)
    sizes['intermediate_size'] = 64
    model = getattr(transformers, f'{name}Model')(getattr(transformers, f'{name}Config')(**sizes))
    found = kinds(model)
    assert found['q'] == found['k'] == found['v'] == 2048
    assert found['ffn'] in (2 * 2 * 32 * 64, 2 * 2 * 32 * 128)


def test_prefix_tokens():
    assert prefix_tokens(timm.create_model('vit_small_patch14_reg4_dinov2', **TINY)) == 5
    assert prefix_tokens(VisionTransformer(img_size=32, num_layers=1, embed_dims=32, num_heads=2)) == 1
    without = VisionTransformer(img_size=32, num_layers=1, embed_dims=32, num_heads=2, with_cls_token=False)
    assert prefix_tokens(without) == 0
    assert prefix_tokens(nn.Linear(2, 2)) == 0
    tiny = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16)
    assert prefix_tokens(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**tiny))) == 1
    assert prefix_tokens(transformers.Dinov2Model(transformers.Dinov2Config(**tiny))) == 1
    open_clip = nn.Module()
    open_clip.class_embedding = nn.Parameter(torch.zeros(32))
    assert prefix_tokens(open_clip) == 1


@pytest.mark.skipif(not hasattr(transformers, 'Dinov2WithRegistersModel'), reason='this transformers has no registers')
def test_prefix_tokens_with_registers():
    tiny = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16, num_register_tokens=3)
    model = transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**tiny))
    assert prefix_tokens(model) == 4


def test_groups_are_kinds_in_ranges_of_blocks():
    vit = timm.create_model('vit_small_patch14_dinov2', **{**TINY, 'depth': 4})
    groups = [dict(kind='q', blocks=(0, 1)), dict(kind='ffn', blocks=[3, 3])]
    found = find_candidates(vit, groups=groups)
    assert [(c.kind, c.block) for c in found] == [('q', 0), ('q', 1), ('ffn', 3), ('ffn', 3)]
    assert find_candidates(vit, groups=['q:0-1', 'ffn:3-3']) == found
    assert list(candidate_tensors(vit, found)) == [
        *(f'blocks.{i}.attn.qkv.weight' for i in (0, 1)), 'blocks.3.mlp.fc1.weight', 'blocks.3.mlp.fc2.weight'
    ]  # fmt: skip
    assert find_candidates(vit, groups=[dict(kind=kind, blocks=(0, 3)) for kind in ('q', 'k', 'v', 'ffn')]) == find_candidates(
        vit
    )
    with pytest.raises(ValueError, match=r"candidates.groups: \{'kind': 'q', 'blocks': \(4, 6\)\} names blocks .* 0 to 3"):
        find_candidates(vit, groups=[dict(kind='q', blocks=(4, 6))])
    with pytest.raises(
        ValueError, match=r"a group is dict\(kind='q', blocks=\(first, last\)\) or 'q:first-last', got \{'kind': 'q'\}"
    ):
        find_candidates(vit, groups=[dict(kind='q')])
    with pytest.raises(ValueError, match="or 'q:first-last', got 'q:1'"):
        find_candidates(vit, groups=['q:1'])
    with pytest.raises(ValueError, match=r'leaves the blocks \[2\] without candidates'):
        block_paths(found)
