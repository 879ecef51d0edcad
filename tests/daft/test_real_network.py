"""The published CGNet of CamVid on real photos of Boston: most of its channels are dead, four of those with a live gamma."""

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_dafm.daft import convert_bn
from mmseg_dafm.datasets.target_batches import build_target_loader, model_forward


@pytest.fixture
def cgnet(root, shared, monkeypatch):
    monkeypatch.setenv('STREET_WEIGHTS', str(shared / 'weights'))
    monkeypatch.setenv('STREET_DATA', str(shared / 'data'))
    cfg = Config.fromfile(root / 'configs/daft/street/cgnet_daft_boston.py')
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.eval()
    return model, build_target_loader(cfg.train_dataloader.to_dict(), seed=0)


def test_its_function_is_kept_although_most_variances_are_below_epsilon(cgnet):
    model, loader = cgnet
    batches = [batch for batch, _ in zip(loader, range(3), strict=False)]
    forward = model_forward(model, ['backbone'])
    with torch.no_grad():
        before = forward(batches[2])[-1]
        report = convert_bn(model, batches[:2], ['backbone'], forward=forward)
        after = forward(batches[2])[-1]
    assert report.summary['layers'] == 54
    assert report.summary['channels'] == 5126
    assert report.summary['dead_channels'] > 2900
    assert report.verify_error < 1e-5
    assert (after - before).norm() < 1e-5 * before.norm(), 'on a batch that was not estimated from'
    assert 1.2 < report.layers['backbone.stem.0.bn'].ratio_median < 2, 'photos of Boston have more contrast'
