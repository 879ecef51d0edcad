"""DAFT's two rates in runs of mmengine's own Runner, of which our tools know nothing."""

import pytest

from tests.hooks.classifier import runner

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
