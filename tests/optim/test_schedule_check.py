"""Schedules never raise a rate above its intent: the trap of eta_min, real schedulers, and every shipped config."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmseg_dafm.doctor import files as doctor_files
from mmseg_dafm.doctor.config_check import check_config
from mmseg_dafm.optim.schedule_check import check_rates, check_schedule, intended_rates, simulate

FOLDER = Path(__file__).resolve().parents[2] / 'configs'
DAFT = sorted(path for path in (FOLDER / 'daft').rglob('*.py'))
CONFIGS = sorted(path for path in FOLDER.rglob('*.py') if not {'_base_', 'suites'} & {*path.parts})
RATES = dict(feature_lr=3e-5, head_lr=1.0)


def poly(**changes) -> dict:
    return dict(dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=100, by_epoch=False), **changes)


@given(
    st.floats(1e-6, 10),
    st.floats(1e-6, 10),
    st.sampled_from([0.0, 1e-5, 1e-2]),
    st.sampled_from([0.5, 0.9, 1.0, 2.0]),
    st.integers(2, 60),
)
@settings(max_examples=50, deadline=None)
def test_poly_is_the_formula(feature_lr, head_lr, eta_min, power, length):
    rates = dict(a=feature_lr, b=head_lr)
    found = simulate(rates, [poly(eta_min=eta_min, power=power, end=length)], length)
    shrink = (1 - np.arange(length) / (length - 1)) ** power
    for column, rate in zip(found.T, rates.values(), strict=True):
        np.testing.assert_allclose(column, (rate - eta_min) * shrink + eta_min, rtol=1e-9, atol=1e-12)


@given(st.floats(1e-6, 1), st.floats(1e-6, 1), st.sampled_from(['PolyLR', 'CosineAnnealingLR']))
@settings(max_examples=50, deadline=None)
def test_refused_exactly_if_eta_min_is_above_a_rate(rate, eta_min, kind):
    scheduler = dict(type=kind, eta_min=eta_min, end=30, by_epoch=False)
    if kind == 'CosineAnnealingLR':
        scheduler['T_max'] = 30
    if eta_min > rate * (1 + 1e-5):
        with pytest.raises(ValueError, match=f'{kind} raises the rate of a'):
            check_schedule(dict(a=rate, b=2.0), scheduler, 30)
    elif eta_min < rate:
        check_schedule(dict(a=rate, b=2.0), scheduler, 30)


def test_the_trap_is_named_with_scheduler_key_group_rates_and_remedy():
    warm_up = dict(type='LinearLR', start_factor=1e-3, begin=0, end=10, by_epoch=False)
    with pytest.raises(ValueError, match='raises') as info:
        check_schedule(RATES, [warm_up, poly(eta_min=1e-4, begin=10)], 100)
    assert str(info.value) == (
        'param_scheduler[1] PolyLR raises the rate of feature_lr from 3e-05 to 0.0001, because eta_min=0.0001 holds for every '
        "group: set eta_min=0 or use mmseg's PolyLRRatio with eta_min_ratio."
    )


@pytest.mark.parametrize(
    'schedulers',
    [
        [],
        poly(),
        [dict(type='LinearLR', start_factor=1e-3, begin=0, end=10, by_epoch=False), poly(begin=10)],
        [dict(type='PolyLRRatio', eta_min_ratio=0.01, power=0.9, begin=0, end=100, by_epoch=False)],
        [dict(type='CosineAnnealingLR', eta_min_ratio=0.1, T_max=100, by_epoch=False)],
        [dict(type='MultiStepLR', milestones=[30, 60], by_epoch=False)],
        # it does not get that far
        [poly(eta_min=1e-4, begin=200, end=300)],
        # mmengine never moves a scheduler of epochs in a loop of iterations
        [dict(type='PolyLR', eta_min=1e-4, end=3, by_epoch=True)],
    ],
)
def test_warm_up_from_below_ratios_and_steps_pass(schedulers):
    check_schedule(RATES, schedulers, 100)


def test_other_ways_up_are_refused_with_their_key():
    for scheduler, words in (
        (dict(type='StepLR', step_size=5, gamma=2.0, by_epoch=False), 'gamma=2.0 holds .* keep gamma at or below 1'),
        (dict(type='OneCycleLR', eta_max=2.0, total_steps=100, by_epoch=False), r'eta_max=2.0 holds for every group'),
        (dict(type='ExponentialLR', gamma=1.01, by_epoch=False), 'gamma=1.01 holds .* keep gamma at or below 1'),
    ):
        with pytest.raises(ValueError, match=words):
            check_schedule(RATES, [scheduler], 100)


def test_epochs_move_once_an_epoch():
    scheduler = dict(type='StepLR', step_size=1, gamma=0.1, by_epoch=True)
    assert simulate(dict(a=1.0), scheduler, 6, epoch_length=2)[:, 0] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert simulate(dict(a=1.0), scheduler, 3)[:, 0].tolist() == [1, 1, 1]
    converted = dict(scheduler, convert_to_iter_based=True)
    assert simulate(dict(a=1.0), converted, 6, epoch_length=3)[:, 0] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1])


def config(wrapper: dict, scheduler: dict, **train_cfg) -> Config:
    return Config(dict(optim_wrapper=wrapper, param_scheduler=[scheduler], train_cfg=train_cfg or dict(max_iters=100)))


@pytest.mark.parametrize('scope', ['', 'mmseg.', 'mmseg_dafm.optim.daft_constructor.'])
def test_daft_configs_are_refused_where_tools_and_doctor_look(tmp_path, scope):
    wrapper = dict(constructor=f'{scope}DAFTOptimWrapperConstructor', optimizer=dict(type='SGD'), paramwise_cfg=RATES)
    cfg = config(wrapper, poly(eta_min=1e-4))
    with pytest.raises(ValueError, match='raises the rate of feature_lr'):
        check_config(cfg, ('train_dataloader',))
    check_config(cfg, ('test_dataloader',))
    tied = dict(wrapper, paramwise_cfg=dict(feature_lr=3e-5, head_lr=3e-5))
    with pytest.raises(ValueError, match='raises the rate of'):
        check_rates(config(tied, poly(eta_min=1e-4)))
    with pytest.raises(ValueError, match='raises the rate of'):
        check_rates(config(wrapper, dict(type='PolyLR', eta_min=1e-4, end=5), by_epoch=True, max_epochs=5))
    path = tmp_path / 'trap.py'
    cfg.dump(path)
    bad = [check for check in doctor_files.check_config_files(str(path)) if not check.ok]
    assert [check.fix for check in bad] == ["set eta_min=0 or use mmseg's PolyLRRatio with eta_min_ratio."]


def test_other_constructors_are_warned_of_different_rates_only():
    logger, said = MMLogger.get_instance('schedule_check'), []
    logger.handle = lambda record: record.levelname == 'WARNING' and said.append(record.getMessage())
    sgd = dict(type='SGD', lr=1e-2)
    check_rates(config(dict(optimizer=sgd), poly(eta_min=1e-1)))
    assert said == []
    check_rates(
        config(dict(optimizer=sgd, paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1e-3)))), poly(eta_min=1e-4))
    )
    assert len(said) == 1
    assert 'raises the rate of custom_keys.backbone from 1e-05 to 0.0001' in said[0]


def test_intended_rates_of_each_kind_of_config():
    sgd = dict(type='SGD', lr=0.1)
    keys = dict(custom_keys=dict(backbone=dict(lr_mult=0.1), head=dict(lr=2.0), norm=dict(decay_mult=0.0)), bias_lr_mult=2.0)
    assert intended_rates(dict(optimizer=sgd, paramwise_cfg=keys)) == pytest.approx(
        {'optimizer.lr': 0.1, 'bias_lr_mult': 0.2, 'custom_keys.backbone': 0.01, 'custom_keys.head': 2.0, 'custom_keys.norm': 0.1}
    )
    assert intended_rates(dict(optimizer=dict(type='SGD'), paramwise_cfg=dict(feature_lr=0.0, head_lr=1.0))) == dict(head_lr=1.0)
    assert intended_rates({}) == intended_rates(dict(optimizer=sgd | dict(lr='fast'))) == {}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_no_shipped_config_raises_a_rate(path):
    cfg = Config.fromfile(path)
    check_schedule(intended_rates(cfg.optim_wrapper), cfg.param_scheduler, cfg.train_cfg.max_iters)


@pytest.mark.parametrize('path', DAFT, ids=lambda path: path.stem)
def test_the_shipped_schedules_keep_both_rates_at_their_intent(path):
    """At iteration 0, in the middle and at the end: the polynomial of each rate, and so always the same ratio."""
    cfg = Config.fromfile(path)
    if cfg.optim_wrapper.get('constructor') != 'DAFTOptimWrapperConstructor':
        pytest.skip('one rate')
    rates, length = intended_rates(cfg.optim_wrapper), cfg.train_cfg.max_iters
    found = simulate(rates, cfg.param_scheduler, length)
    *warm_up, scheduler = cfg.param_scheduler
    assert (scheduler.type, scheduler.eta_min) == ('PolyLR', 0)
    if warm_up:
        assert all(point[1] / point[0] == pytest.approx(rates['head_lr'] / rates['feature_lr']) for point in found[::1000])
        assert [max(column) for column in zip(*found, strict=True)] == pytest.approx(list(rates.values()), rel=0.05)
        return
    for iteration in (0, length // 2, length - 1):
        share = math.pow(1 - iteration / (length - 1), scheduler.power)
        assert found[iteration] == pytest.approx([rate * share for rate in rates.values()], rel=1e-6, abs=1e-12)
