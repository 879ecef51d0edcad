"""Adapters on every family: the ViT stays, the adapter trains, checkpoints keep the plain names; the papers' parameter counts."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_checkpoint
from mmseg.registry import MODELS

from mmseg_dafm.fishertune.candidates import parameter_count
from mmseg_dafm.models.adapters import Adapter, trainable_parameters
from tests.models.vfm_families import FAMILIES, ORIGINAL, build, patchy, published, samples, segmentor

ADAPTERS = dict(
    LoRA=dict(type='LoRA', rank=2), VPT=dict(type='VPT', tokens=3), AdaptFormer=dict(type='AdaptFormer', bottleneck=4),
    VQT=dict(type='VQT', tokens=3), Rein=dict(type='Rein', tokens=5, rank=2),
)  # fmt: skip
IDENTITIES = ('LoRA', 'AdaptFormer', 'Rein')
PAIRS = [(family, kind) for family in FAMILIES for kind in ADAPTERS if not (family == 'sam' and kind in ('VPT', 'VQT'))]
pairs = pytest.mark.parametrize(('family', 'kind'), PAIRS)
kinds = pytest.mark.parametrize('kind', ADAPTERS)


@pytest.fixture(autouse=True)
def _peft(request):
    if getattr(request.node, 'callspec', None) and request.node.callspec.params.get('kind') == 'LoRA':
        pytest.importorskip('peft')


@torch.no_grad()
def stir(backbone) -> None:
    """Give every parameter of the adapter a value of its own."""
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            parameter.normal_(0, 0.1)


@torch.no_grad()
def plain_and_adapted(family, kind, stirred=True, **changes):
    """A backbone of random weights, and the same with an adapter."""
    plain, adapted = build(family, **changes).eval(), build(family, adapter=ADAPTERS[kind], **changes).eval()
    for parameter in plain.parameters():
        parameter.normal_(0.05, 0.1)
    adapted.load_state_dict(plain.state_dict(), strict=False)
    if stirred:
        stir(adapted)
    return plain, adapted


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pairs
def test_the_first_maps_are_the_plain_ones_where_the_method_says_so(family, kind):
    plain, adapted = plain_and_adapted(family, kind, stirred=False)
    images = torch.randn(2, 3, 48, 90)
    with torch.no_grad():
        assert same(plain(images), adapted(images)) == (kind in IDENTITIES)
        stir(adapted)
        assert not same(plain(images), adapted(images))


@pairs
def test_the_adapter_trains_whole_the_vit_not_at_all_with_and_without_checkpointing(family, kind):
    torch.manual_seed(1)
    _, adapted = plain_and_adapted(family, kind, out_indices=(1, 3))
    again = build(family, adapter=ADAPTERS[kind], out_indices=(1, 3), gradient_checkpointing=True)
    again.load_state_dict(adapted.state_dict())
    images = torch.randn(2, 3, 64, 32)
    for model in (adapted, again):
        maps = model.train()(images)
        sum(out.square().mean() for out in maps).backward()
    other = dict(again.named_parameters())
    trained = [name for name, value in adapted.named_parameters() if value.requires_grad]
    assert trained
    assert all(name.startswith('adapter.') or '.lora_' in name for name in trained)
    for name, value in adapted.named_parameters():
        if name in trained:
            assert value.grad.any(), name
            torch.testing.assert_close(other[name].grad, value.grad, msg=name)
        else:
            assert value.grad is None, name


@pairs
def test_pretrained_weights_fill_the_vit_and_its_names_are_the_plain_ones(family, kind, tmp_path):
    torch.save(ORIGINAL[family](dict(published(family).state_dict())), tmp_path / 'w.pth')
    plain, adapted = (
        build(family, weights=str(tmp_path / 'w.pth')),
        build(family, weights=str(tmp_path / 'w.pth'), adapter=ADAPTERS[kind]),
    )
    stir(adapted)
    start = {name: value.detach().clone() for name, value in adapted.named_parameters() if value.requires_grad}
    for model in (plain, adapted):
        model.init_weights()
    own, expected = adapted.state_dict(), plain.state_dict()
    assert expected.keys() <= own.keys()
    assert all(torch.equal(own[key], value) for key, value in expected.items())
    assert all(torch.equal(dict(adapted.named_parameters())[name], value) for name, value in start.items())
    extra = own.keys() - expected.keys()
    assert len(extra - {'adapter.factor'}) == len(start)
    assert ('adapter.factor' in extra) == (kind in ('LoRA', 'AdaptFormer'))
    assert all(key.startswith('adapter.') or '.lora_' in key for key in extra)


@kinds
def test_checkpoints_come_back_through_torch_and_through_mmengine(kind, tmp_path):
    _, adapted = plain_and_adapted('eva02', kind)
    torch.save({'state_dict': {f'backbone.{key}': value for key, value in adapted.state_dict().items()}}, tmp_path / 'a.pth')
    images = torch.randn(1, 3, 64, 64)
    one, other = (build('eva02', adapter=ADAPTERS[kind], pretrained=True, weights='no/such.pth').eval() for _ in range(2))
    one.load_state_dict(adapted.state_dict())
    load_checkpoint(other, str(tmp_path / 'a.pth'), strict=True, revise_keys=[(r'^backbone\.', '')])
    for model in (one, other):
        # what was loaded is not read again
        model.init_weights()
        with torch.no_grad():
            assert same(model(images), adapted(images))
    # a plain checkpoint is enough for the ViT
    again = build('eva02', adapter=ADAPTERS[kind], pretrained=True, weights='no/such.pth')
    again.load_state_dict(build('eva02').state_dict(), strict=False)
    again.init_weights()


@kinds
def test_a_checkpoint_of_another_adapter_is_refused(kind):
    state = build('mae', adapter=ADAPTERS[kind]).state_dict()
    other = 'Rein' if kind != 'Rein' else 'VPT'
    for adapter, name in ((None, 'no adapter'), (ADAPTERS[other], f'adapter type {other}')):
        with pytest.raises(ValueError, match=rf'another adapter .* with {name}: set backbone.adapter as in the config'):
            build('mae', adapter=adapter).load_state_dict(state, strict=False)


@kinds
def test_a_copy_has_an_adapter_of_its_own(kind):
    _, adapted = plain_and_adapted('dinov3', kind)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = adapted(images)
        average = ExponentialMovingAverage(adapted)
        copied = copy.deepcopy(adapted)
        assert same(copied(images), before)
        stir(copied)
        assert not same(copied(images), before)
        assert same(adapted(images), before)
        assert same(average.module(images), before)


@kinds
def test_half_precision_gives_maps_and_gradients(kind):
    _, adapted = plain_and_adapted('clip', kind)
    with torch.autocast('cpu', torch.bfloat16):
        maps = adapted.train()(torch.randn(1, 3, 64, 64))
        sum(out.float().square().mean() for out in maps).backward()
    assert all(torch.isfinite(value.grad).all() for value in adapted.parameters() if value.requires_grad)


@kinds
def test_the_mode_follows_the_model_so_that_stochastic_depth_is_that_of_the_config(kind):
    _, adapted = plain_and_adapted('mae', kind, drop_path_rate=0.9)
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        assert not same(adapted.train()(images), adapted(images))
        assert same(adapted.eval()(images), adapted(images))
    assert not adapted.timm_model.training


@pytest.mark.parametrize(
    ('cfg', 'text'),
    [
        (dict(type='Lora'), "adapter.type='Lora' is no adapter: use LoRA, VPT"),
        (dict(type='FCNHead'), "'FCNHead' is no adapter"),
        (dict(rank=8), 'type=None is no adapter'),
        (dict(type='VPT', prompts=3), r"adapter=\{'type': 'VPT', 'prompts': 3\} has an option that VPT does not take"),
        (dict(type='VPT', tokens=0), 'adapter.tokens=0 of VPT must be above 0'),
        (dict(type='VQT', tokens=0), 'adapter.tokens=0 of VQT'),
        (dict(type='AdaptFormer', bottleneck=0), 'adapter.bottleneck=0 of AdaptFormer'),
        (dict(type='AdaptFormer', scale=-1), 'adapter.scale=-1 of AdaptFormer'),
        (dict(type='Rein', tokens=1), 'of Rein must be'),
        (dict(type='Rein', rank=0), 'adapter.rank=0 of Rein'),
    ],
)
def test_options_that_make_no_sense_are_refused(cfg, text):
    with pytest.raises(ValueError, match=text):
        build('mae', adapter=cfg)


def test_adapters_that_cannot_work_are_refused(monkeypatch):
    for kind in ('VPT', 'VQT'):
        with pytest.raises(
            ValueError, match=f"type='{kind}' adds tokens .* VisionTransformerSAM .* use LoRA, AdaptFormer or Rein"
        ):
            build('sam', adapter=ADAPTERS[kind])
    with pytest.raises(ValueError, match='frozen=True would freeze adapter=.*remove frozen'):
        build('mae', adapter=ADAPTERS['VPT'], frozen=True)
    with pytest.raises(ValueError, match='queries from block 1 on: name a later block in out_indices'):
        build('mae', adapter=ADAPTERS['VQT'], out_indices=(0,))
    parallel = dict(model_name='vit_base_patch16_xp_224', patch_size=16, img_size=64)
    for kind in ('AdaptFormer', 'VQT'):
        with pytest.raises(ValueError, match=f"type='{kind}' does not know the ParallelScalingBlock of .* use LoRA, VPT"):
            build('mae', adapter=ADAPTERS[kind], **parallel)
    assert build('mae', adapter=ADAPTERS['VPT'], **parallel)(torch.randn(1, 3, 64, 64))[0].shape == (1, 32, 4, 4)
    monkeypatch.setattr('mmseg_dafm.models.adapters.lora.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "mmseg_dafm\[peft\]"'):
        build('mae', adapter=ADAPTERS['LoRA'])


def test_lora_refuses_ranks_dropouts_and_layers_that_are_not_there():
    pytest.importorskip('peft')
    for changes, text in (
        (dict(rank=0), 'adapter.rank=0 of LoRA'),
        (dict(alpha=0), 'adapter.alpha=0 of LoRA'),
        (dict(dropout=1.0), r'adapter.dropout=1.0 of LoRA must be in \[0, 1\)'),
        (
            dict(targets=('attn.qkv', 'attn.q')),
            'VisionTransformer has no linear layer blocks.0.attn.q; give names within a block',
        ),
    ):
        with pytest.raises(ValueError, match=text):
            build('mae', adapter=dict(type='LoRA', **changes))
    with pytest.raises(ValueError, match='no linear layer blocks.0.attn.q_proj; give names within a block'):
        build('mae', adapter=dict(type='LoRA'), model_name='vit_base_patch16_xp_224')


COUNTS = dict(
    LoRA=(dict(type='LoRA', rank=8), 786_432, '0.79'), VPT=(dict(type='VPT', tokens=150), 3_686_400, '3.69'),
    AdaptFormer=(dict(type='AdaptFormer', bottleneck=64, scale=0.1), 3_171_840, '3.17'),
    Rein=(dict(type='Rein', tokens=100, rank=16, query_channels=256), 2_990_081, '2.99'),
    VQT=(dict(type='VQT', tokens=128), 3_014_656, '3.01'), Full=(None, None, None), Freeze=(None, 0, '0.00'),
)  # fmt: skip


@pytest.mark.parametrize('kind', COUNTS)
@pytest.mark.parametrize('name', ['dinov2_l', 'eva02_l'])
def test_parameter_counts_of_vit_l_are_the_printed_ones(name, kind, root, monkeypatch):
    adapter, count, printed = COUNTS[kind]
    lines = []
    monkeypatch.setattr('mmseg_dafm.models.backbones.vfm_backbone.print_log', lambda line, *_: lines.append(line))
    cfg = Config.fromfile(root / f'configs/_base_/backbones/{name}.py').backbone
    with torch.device('meta'):
        backbone = MODELS.build(dict(cfg, adapter=adapter, frozen=kind == 'Freeze'))
    trained, base = trainable_parameters(backbone)
    if name == 'dinov2_l':
        # the original release, whose 304,199,680 are printed as 304.20 M, has a final norm and a mask token besides
        assert base == 304_199_680 - 2 * 1024 - 1024
    assert trained == (base if kind == 'Full' else count)
    if adapter is not None:
        assert f'{trained / 1e6:.2f}' == printed
        assert lines == [f'VFMBackbone: {kind} trains {printed} M of {base / 1e6:.1f} M parameters']
        assert isinstance(backbone.adapter, Adapter)
    if kind == 'Full' and name == 'dinov2_l':
        # ChildTuning-D and FisherTune
        assert round(0.05 * parameter_count(backbone) / 1e6, 2) == 15.21


def rein_segmentor(**changes):
    adapter = dict(ADAPTERS['Rein'], tokens=10, query_channels=32)
    return {**segmentor('dinov2', 'mask2former', backbone=dict(adapter=adapter), type='ReinEncoderDecoder'), **changes}


def test_reins_tokens_are_the_heads_queries_and_every_parameter_trains():
    torch.manual_seed(0)
    model = MODELS.build(rein_segmentor()).train()
    found = model.loss(torch.randn(2, 3, 64, 64), samples(patchy(size=(64, 64))))
    sum(value for key, value in found.items() if 'loss' in key).backward()
    assert [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None] == []
    assert not any('queries_features' in name for name in model.state_dict())
    for name in ('to_query.weight', 'merge.weight', 'left', 'right'):
        assert model.backbone.adapter.get_parameter(name).grad.any(), name
    copied = copy.deepcopy(model).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = copied(images, mode='tensor')[0][-1]
        copied.backbone.adapter.merge.bias += 1
        assert not torch.allclose(before, copied(images, mode='tensor')[0][-1])


def test_rein_and_a_head_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"needs backbone.adapter=dict\(type='Rein', query_channels=...\)"):
        MODELS.build(dict(rein_segmentor(), backbone=segmentor('dinov2', 'fpn')['backbone']))
    fpn = segmentor('dinov2', 'fpn')
    with pytest.raises(ValueError, match="needs decode_head.type='HFMask2FormerHead', got FPNHead"):
        MODELS.build(rein_segmentor(neck=fpn['neck'], decode_head=fpn['decode_head']))
    head = dict(rein_segmentor()['decode_head'], num_queries=9)
    with pytest.raises(ValueError, match=r'\(10, 32\), but decode_head has \(num_queries, channels\)=\(9, 32\): make them equal'):
        MODELS.build(rein_segmentor(decode_head=head))
    alone = MODELS.build(dict(rein_segmentor(), type='EncoderDecoder')).train()
    with pytest.raises(ValueError, match="query_channels=32 of Rein makes object queries .* model.type='ReinEncoderDecoder'"):
        alone.backbone(torch.randn(1, 3, 64, 64))
