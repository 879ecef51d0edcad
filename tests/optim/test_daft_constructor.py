"""DAFT's two absolute rates: every parameter's rate and decay, freezing, logging and refusals."""

import json

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner import Runner
from torch import nn

from mmseg_dafm.optim.daft_constructor import parameter_groups
from tests.runs.common import tiny_config

RATES = dict(feature_lr=0.01, head_lr=0.5)


class Net(nn.Module):
    """A backbone, a module whose name begins with the backbone's, and a head."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
        self.backbone2 = nn.Linear(2, 2)
        self.neck = nn.ModuleDict(dict(backbone=nn.Linear(2, 2)))
        self.decode_head = nn.Conv2d(4, 2, 1)


@pytest.fixture
def model():
    return Net()


def wrapper_cfg(paramwise=RATES, **changes) -> dict:
    optimizer = dict(type='SGD', momentum=0.9, weight_decay=1e-4)
    return dict(dict(constructor='DAFTOptimWrapperConstructor', optimizer=optimizer, paramwise_cfg=paramwise), **changes)


def settings(model, groups) -> dict:
    where = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    return {name: where.get(id(p)) for name, p in model.named_parameters()}


def test_each_parameter_has_its_roles_rate_and_is_in_one_group(model):
    groups = parameter_groups(model, **RATES, weight_decay=1e-4)
    assert [group['name'] for group in groups] == ['features', 'head']
    assert sum(len(group['params']) for group in groups) == len(list(model.parameters()))
    for name, found in settings(model, groups).items():
        # 'backbone2' and 'neck.backbone' only contain the word
        assert found == (0.01 if name.startswith('backbone.') else 0.5, 1e-4), name


def test_decay_factors_split_the_groups_and_leave_the_rates(model):
    groups = parameter_groups(model, **RATES, weight_decay=1e-4, norm_decay_mult=0.0, bias_decay_mult=2.0)
    found = settings(model, groups)
    assert found['backbone.0.weight'] == (0.01, 1e-4)
    assert found['backbone.0.bias'] == (0.01, 2e-4)
    for norm in ('1.weight', '1.bias', '2.weight', '2.bias'):
        assert found[f'backbone.{norm}'] == (0.01, 0.0)
    assert found['decode_head.bias'] == (0.5, 2e-4)
    names = [group['name'] for group in groups]
    assert len(set(names)) == len(names) == 5


def test_feature_modules_are_paths_and_may_be_parts(model):
    found = settings(model, parameter_groups(model, **RATES, feature_modules=('backbone.0', 'neck')))
    assert {name for name, value in found.items() if value[0] == 0.01} == {
        'backbone.0.weight', 'backbone.0.bias', 'neck.backbone.weight', 'neck.backbone.bias'
    }  # fmt: skip


def test_a_shared_parameter_is_in_one_group(model):
    model.decode_head.weight = model.backbone[1].weight
    groups = parameter_groups(model, **RATES)
    members = [id(p) for group in groups for p in group['params']]
    assert len(members) == len(set(members))


def test_the_step_uses_the_rates(model):
    wrapper = build_optim_wrapper(model, wrapper_cfg(optimizer=dict(type='SGD')))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    wrapper.step()
    for name, p in model.named_parameters():
        assert torch.allclose(before[name] - p, torch.full_like(p, 0.01 if name.startswith('backbone.') else 0.5)), name


def test_zero_feature_lr_freezes_for_good(model):
    model.backbone[1].weight.requires_grad_(False)
    wrapper = build_optim_wrapper(model, wrapper_cfg(dict(feature_lr=0, head_lr=0.5)))
    assert [group['name'] for group in wrapper.optimizer.param_groups] == ['head']
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(p.requires_grad for p in model.decode_head.parameters())
    rates = wrapper.get_lr()
    assert rates['head_lr'] == [0.5]
    assert 'features_lr' not in rates


def test_any_wrapper_names_both_rates_and_stays_what_it_was(model):
    for changes in (dict(), dict(type='OptimWrapper', accumulative_counts=3), dict(type=OptimWrapper)):
        wrapper = build_optim_wrapper(model, wrapper_cfg(**changes))
        assert isinstance(wrapper, OptimWrapper)
        rates = wrapper.get_lr()
        assert (rates['features_lr'], rates['head_lr'], rates['base_lr']) == ([0.01], [0.5], [0.5])
        assert rates['lr'] == [0.01, 0.5]
    assert build_optim_wrapper(model, wrapper_cfg(accumulative_counts=3))._accumulative_counts == 3


def test_both_rates_are_in_the_scalars_of_a_run_and_follow_the_schedule(tmp_path):
    cfg = tiny_config(tmp_path, 4)
    cfg.optim_wrapper = wrapper_cfg()
    cfg.param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=4, by_epoch=False)]
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.update(experiment_name='daft_rates', log_processor=dict(by_epoch=False))
    Runner.from_cfg(cfg).train()
    lines = [json.loads(line) for line in next(tmp_path.rglob('scalars.json')).read_text().splitlines()]
    for iteration, line in enumerate(lines):
        assert line['features_lr'] == pytest.approx(0.01 * (1 - iteration / 3))
        assert line['head_lr'] == pytest.approx(0.5 * (1 - iteration / 3))


def test_the_console_shows_small_rates_with_their_exponents(tmp_path):
    cfg = tiny_config(tmp_path, 1)
    cfg.optim_wrapper = wrapper_cfg(dict(feature_lr=3e-6, head_lr=0.5))
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.update(experiment_name='daft_console', log_processor=dict(by_epoch=False), log_level='INFO')
    Runner.from_cfg(cfg).train()
    log = next(tmp_path.rglob('*.log')).read_text()
    assert 'features_lr: 3.0000e-06 head_lr: 5.0000e-01' in log


def test_features_cannot_be_frozen_behind_a_distributed_wrapper(model):
    wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module, wrapped.find_unused_parameters = model, False
    linear_probing = wrapper_cfg(dict(feature_lr=0, head_lr=0.5))
    with pytest.raises(ValueError, match='freeze it in the model config .* or set find_unused_parameters=True'):
        build_optim_wrapper(wrapped, linear_probing)
    assert all(p.requires_grad for p in model.parameters())
    model.backbone.requires_grad_(False)
    assert len(build_optim_wrapper(wrapped, linear_probing).optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ('paramwise', 'changes', 'message'),
    [
        (dict(head_lr=1.0), {}, 'paramwise_cfg.feature_lr must be a number of 0 or more, got None'),
        (dict(feature_lr=1.0), {}, 'paramwise_cfg.head_lr must be a number above 0, got None'),
        (dict(RATES, head_lr=0), {}, 'head_lr must be a number above 0, got 0'),
        (dict(RATES, feature_lr=-1), {}, 'feature_lr must be a number of 0 or more, got -1'),
        (dict(RATES, feature_lr='1e-3'), {}, "feature_lr must be a number of 0 or more, got '1e-3'"),
        (dict(RATES, head_lr=float('nan')), {}, 'head_lr must be a number above 0, got nan'),
        (dict(RATES, norm_decay_mult=-0.5), {}, 'norm_decay_mult must be a number of 0 or more'),
        (dict(RATES, lr_mult=2), {}, r"unknown keys \['lr_mult'\]: use \['bias_decay_mult', 'feature_lr'"),
        (dict(RATES, feature_modules='backbone'), {}, "feature_modules must be a list of module paths, got 'backbone'"),
        (dict(RATES, feature_modules=('trunk',)), {}, "names 'trunk', which holds no parameter: choose from .*'decode_head'"),
        (dict(RATES, feature_modules=('backbone', 'backbone2', 'neck', 'decode_head')), {}, 'no parameter outside .* requires a'),
        (RATES, dict(optimizer=dict(type='SGD', lr=0.1)), 'optimizer.lr=0.1 contradicts paramwise_cfg.head_lr=0.5: remove it'),
        (RATES, dict(optimizer=dict(lr=0.5)), 'optim_wrapper.optimizer needs a type'),
        (RATES, dict(type='Wrap'), "optim_wrapper.type='Wrap' is not registered"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(model, paramwise, changes, message):
    with pytest.raises(ValueError, match=message) as info:
        build_optim_wrapper(model, wrapper_cfg(paramwise, **changes))
    assert len(str(info.value).splitlines()) == 1


def test_a_rate_for_frozen_features_and_none_for_free_ones_are_refused(model):
    with pytest.raises(ValueError, match=r"feature_lr=0, but \['backbone'\] is not frozen"):
        parameter_groups(model, 0.0, 0.1)
    model.backbone.requires_grad_(False)
    with pytest.raises(ValueError, match=r"feature_lr=0.01, but no parameter of \['backbone'\] requires a gradient"):
        parameter_groups(model, **RATES)
