"""DAFT's two rates in runs of mmengine's own Runner, of which our tools know nothing."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from tests.hooks.classifier import Classifier, runner
from tests.runs.common import tiny_config

PARAMWISE = dict(feature_lr=3e-5, head_lr=0.1, feature_modules=['net.backbone'])


def wrapper(scope: str = 'mmseg.') -> dict:
    return dict(
        constructor=f'{scope}DAFTOptimWrapperConstructor', optimizer=dict(type='SGD', momentum=0.9), paramwise_cfg=PARAMWISE
    )


def test_outside_mmsegs_scope_the_constructor_takes_the_prefix(tmp_path):
    run = runner(tmp_path / 'with', iterations=1, optim_wrapper=wrapper())
    run.train()
    rates = run.optim_wrapper.get_lr()
    assert (rates['features_lr'], rates['head_lr']) == ([3e-5], [0.1])
    with pytest.raises(KeyError, match='DAFTOptimWrapperConstructor is not in'):
        runner(tmp_path / 'without', iterations=1, optim_wrapper=wrapper('')).train()


def poly(eta_min: float, begin: int = 0) -> dict:
    return dict(type='PolyLR', eta_min=eta_min, power=0.9, begin=begin, end=6, by_epoch=False)


@pytest.mark.slow
def test_a_run_from_a_config_refuses_eta_min_before_its_first_iteration(tmp_path):
    """As mmseg's own tools/train.py makes it: nothing but the config's components is ours."""
    cfg = tiny_config(tmp_path, 6)
    cfg.optim_wrapper = {**wrapper(''), 'paramwise_cfg': dict(feature_lr=3e-5, head_lr=0.1)}
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=2, by_epoch=False), poly(1e-4, begin=2)]
    cfg.experiment_name = 'daft_refused'
    run = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match=r'param_scheduler\[1\] PolyLR raises the rate of features .* because eta_min=0.0001'):
        run.train()
    assert run.iter == 0
    cfg.param_scheduler[1].eta_min = 0.0
    cfg.experiment_name = 'daft_accepted'
    Runner.from_cfg(cfg).train()


def test_a_run_without_a_config_refuses_it_at_the_first_step_that_it_spoils(tmp_path):
    run = runner(tmp_path, iterations=6, optim_wrapper=wrapper(), param_scheduler=[poly(1e-4)])
    before = Classifier().net.backbone[0].conv.weight
    with pytest.raises(
        ValueError, match='raises the rate of features from 3e-05 to .* An eta_min, for example.*set eta_min=0 or'
    ):
        run.train()
    assert run.iter == 1
    assert (run.model.net.backbone[0].conv.weight - before).abs().max() > 0, 'the first step was as meant'


def test_a_step_above_the_rate_updates_nothing():
    model = Classifier()
    optim_wrapper = build_optim_wrapper(model, wrapper())
    optim_wrapper.param_groups[0]['lr'] *= 1 + 1e-8
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optim_wrapper.step()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optim_wrapper.param_groups[0]['lr'] *= 1.01
    with pytest.raises(ValueError, match='raises the rate of features from 3e-05 to 3.03e-05'):
        optim_wrapper.step()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    'schedule',
    [
        [dict(type='LinearLR', start_factor=1e-3, begin=0, end=3, by_epoch=False), poly(0.0, begin=3)],
        [dict(type='OneCycleLR', eta_max=3e-5, total_steps=6, by_epoch=False)],
        [dict(type='ConstantLR', factor=0.5, end=3, by_epoch=False)],
    ],
    ids=lambda schedule: schedule[0]['type'],
)
def test_rates_that_rise_to_what_was_given_pass(tmp_path, schedule):
    run = runner(tmp_path, iterations=6, optim_wrapper=wrapper(), param_scheduler=schedule)
    run.train()
    assert run.iter == 6


def test_scaled_rates_are_compared_as_scaled(tmp_path):
    scale = dict(enable=True, base_batch_size=1)  # the batch has 4 images: 1.2e-4 for the features
    run = runner(tmp_path, iterations=6, optim_wrapper=wrapper(), param_scheduler=[poly(1e-4)], auto_scale_lr=scale)
    run.train()
    assert run.optim_wrapper.get_lr()['features_lr'] == [pytest.approx(1e-4)]
    with pytest.raises(ValueError, match='raises the rate of features from 0.00012 to'):
        runner(
            tmp_path / 'above', iterations=6, optim_wrapper=wrapper(), param_scheduler=[poly(2e-4)], auto_scale_lr=scale
        ).train()
