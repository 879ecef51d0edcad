"""The groups of FisherTuneOptimWrapperConstructor, and what it refuses."""

import io
import logging

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from torch import nn

from mmseg_dafm.core import run_config
from mmseg_dafm.optim.fisher_constructor import merge_groups
from mmseg_dafm.optim.fisher_wrapper import TENSORS
from tests.optim.selected_weights import Net, build, some_ranking

ADAMW = dict(type='AdamW', lr=0.1, weight_decay=0.5)


@pytest.fixture
def model():
    return Net()


def table(groups) -> list[tuple]:
    return [(g['name'], len(g['params']), g.get(TENSORS), g['lr'], g['weight_decay']) for g in groups]


def test_candidates_get_an_empty_group_and_the_rest_of_the_backbone_none(model):
    wrapper = build(model, ADAMW)
    names = [f'blocks.{i}.{leaf}.weight' for i in range(2) for leaf in ('attn.qkv', 'mlp.fc1', 'mlp.fc2')]
    assert table(wrapper.optimizer.param_groups) == [('decoder', 2, None, 0.1, 0.5), ('candidates', 0, names, 0.05, 0.5)]
    assert list(wrapper.tensors) == names
    assert all(p.requires_grad for p in model.parameters())
    assert {c.kind for c in wrapper.candidates} == {'q', 'k', 'v', 'ffn'}


def test_mmengines_rules_split_groups_by_rate_and_decay(model):
    keys = {'backbone': dict(lr_mult=0.1), 'backbone.blocks.1': dict(lr_mult=0.2, decay_mult=0.0)}
    paramwise = dict(custom_keys=keys, bias_decay_mult=0.0, candidates=dict(kinds=['v', 'ffn'], include_bias=True))
    wrapper = build(model, ADAMW, paramwise)
    found = table(wrapper.optimizer.param_groups)
    assert [row[0] for row in found] == ['decoder 0', 'decoder 1', 'candidates 0', 'candidates 1']
    assert [row[3:] for row in found[:2]] == [(0.1, 0.5), (0.1, 0.0)]
    assert [row[3:] for row in found[2:]] == [pytest.approx((0.01, 0.5)), pytest.approx((0.02, 0.0))]
    assert all(name.startswith('blocks.0.') for name in found[2][2])
    assert all(name.startswith('blocks.1.') for name in found[3][2])
    assert {c.kind for c in wrapper.candidates} == {'v', 'ffn'}
    assert any(name.endswith('.bias') for name in wrapper.tensors)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rows = {name: slice(16, 24) for name in wrapper.tensors if 'qkv' in name}
    ids, start = [], 0
    for name, tensor in wrapper.tensors.items():
        mask = torch.zeros_like(tensor)
        mask[rows.get(name, slice(None))] = 1
        ids.append(start + mask.flatten().nonzero().flatten())
        start += tensor.numel()
    wrapper.select(torch.cat(ids))
    wrapper.grow(len(wrapper.ranking))
    assert [len(g['params']) for g in wrapper.optimizer.param_groups] == [1, 1, 1, 1]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    wrapper.step()
    # with gradient 0, AdamW only decays: block 0 by its rate, block 1 not at all
    for name, p in wrapper.tensors.items():
        own, factor = rows.get(name, slice(None)), 1 - 0.01 * 0.5 if name.startswith('blocks.0.') else 1.0
        was = before[f'backbone.{name}'].clone()
        was[own] *= factor
        assert torch.allclose(p, was), name


def test_frozen_candidates_are_grouped_and_stay_frozen(model):
    model.backbone.requires_grad_(False)
    model.decode_head.bias.requires_grad_(False)
    wrapper = build(model, ADAMW)
    assert table(wrapper.optimizer.param_groups)[0] == ('decoder', 1, None, 0.1, 0.5)
    assert len(wrapper.tensors) == 6
    assert not any(p.requires_grad for p in model.backbone.parameters())


def test_modules_are_found_behind_a_distributed_wrapper_and_deeper(model):
    wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = model
    assert list(build(wrapped, ADAMW).tensors) == list(build(model, ADAMW).tensors)
    outer = nn.ModuleDict(dict(student=model))
    wrapper = build(outer, ADAMW, dict(candidates=dict(module='student.backbone')))
    assert wrapper.backbone is model.backbone


def test_the_table_counts_the_candidates_and_shows_the_optimizers_defaults(model):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = MMLogger.get_instance('fisher_table')
    logger.addHandler(handler)
    try:
        build(model, dict(type='AdamW', lr=0.1))
    finally:
        logger.removeHandler(handler)
    row = next(line for line in stream.getvalue().splitlines() if 'candidates' in line)
    assert [cell.strip() for cell in row.split('|')[1:-1]] == ['candidates', '6', '896', '0.05', '0.01']


def test_groups_merge_by_all_settings_and_keep_shared_parameters_once():
    one, two, three = (nn.Parameter(torch.zeros(n)) for n in (1, 2, 3))
    groups = [
        dict(params=[one], lr=0.1, lr_mult=1.0),
        dict(params=[two], lr=0.1),
        dict(params=[one], lr=0.2),
        dict(params=[three], lr=0.1, eps=1),
    ]
    assert merge_groups(groups, 'g') == [
        dict(name='g 0', params=[one, two], lr=0.1),
        dict(name='g 1', params=[three], lr=0.1, eps=1),
    ]
    assert merge_groups([], 'g') == []


def test_a_model_without_decoder_and_any_torch_optimizer(model):
    for kind in ('Adam', 'NAdam', 'RAdam', 'RMSprop', 'Adamax', 'Rprop'):
        net = nn.ModuleDict(dict(backbone=Net().backbone))
        wrapper = build(net, dict(type=kind, lr=0.01))
        wrapper.select(some_ranking(wrapper, 9))
        wrapper.grow(5)
        for _ in range(2):
            wrapper.update_params(net['backbone'](torch.ones(2, 6)).square().sum())
            wrapper.grow(9)


@pytest.mark.parametrize(
    ('optimizer', 'paramwise', 'changes', 'message'),
    [
        (ADAMW, dict(candidates=dict(modules='x')), {}, r"candidates has unknown keys \['modules'\]: use \['module', 'kinds'"),
        (ADAMW, dict(candidates=dict(module='trunk')), {}, r"module='trunk' is no module of Net: choose from \['backbone', "),
        (ADAMW, dict(candidates=dict(module='decode_head')), {}, 'Linear has no weights of the kinds'),
        (ADAMW, dict(candidates=dict(kinds=('w',))), {}, r"kinds=\('w',\) must be a list out of"),
        (ADAMW, None, dict(type='OptimWrapper'), "optim_wrapper.type='OptimWrapper' cannot train selected weights: use F"),
        (ADAMW, None, dict(type='Wrap'), "optim_wrapper.type='Wrap' cannot train"),
        (dict(type='AdamW'), None, {}, 'optim_wrapper.optimizer needs a type and lr'),
        (dict(type='ZeroRedundancyOptimizer', optimizer_type='Adam', lr=1), None, {}, 'optimizer.type=ZeroRedundancyOptimizer'),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(model, optimizer, paramwise, changes, message):
    with pytest.raises(ValueError, match=message) as info:
        build(model, optimizer, paramwise, **changes)
    assert len(str(info.value).splitlines()) == 1


def test_sharded_models_and_optimizers_are_refused(model):
    model.backbone.__class__ = type('FSDPBackbone', (type('FSDPModule', (nn.Module,), {}),), {})
    with pytest.raises(ValueError, match=r'model_wrapper_cfg or strategy shards the model \(FSDP\)'):
        build(model)
    fused = type('FusedAdam', (torch.optim.Adam,), dict(__module__='deepspeed.ops.adam'))
    with pytest.raises(ValueError, match='optimizer.type=FusedAdam splits parameters'):
        build(Net(), dict(type=fused, lr=0.1))


def test_amp_on_the_command_line_picks_the_twin(monkeypatch):
    monkeypatch.setattr(run_config, 'get_device', lambda: 'cuda')
    cfg = ConfigDict(optim_wrapper=dict(type='FisherTuneOptimWrapper'))
    run_config.enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'FisherTuneAmpOptimWrapper'
    assert cfg.optim_wrapper.dtype == 'float16'


@pytest.mark.parametrize('whole', [False, True])
def test_a_compiled_model_keeps_its_names(whole):
    model = Net()
    names = list(build(model).tensors)
    if whole:
        model = torch.compile(model, backend='eager')
    else:
        model.backbone = torch.compile(model.backbone, backend='eager')
    assert list(build(model).tensors) == names
