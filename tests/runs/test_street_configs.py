"""The six configs of the Boston experiment, on photos and weights that the test writes: what each may and may not change."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS

FOLDER = Path(__file__).resolve().parents[2] / 'configs/daft/street'
METHODS = ('ft', 'ft_conversion', 'integrated', 'daft')
ALBUMS = ('05june05_static_street_boston', 'static_boston_street_april', 'another_walk')
HEAD = ('decode_head.conv_seg.weight', 'decode_head.conv_seg.bias')


def test_the_folder_holds_the_six_methods():
    names = {path.stem.removeprefix('cgnet_').removesuffix('_boston') for path in FOLDER.glob('*.py')}
    assert names == {*METHODS, 'lp', 'lp_ft'}


@pytest.fixture(scope='module')
def street(tmp_path_factory):
    """Four photos to train on, one of Boston and one of elsewhere to test on, and a CGNet that has seen other data."""
    folder, rng = tmp_path_factory.mktemp('street'), np.random.default_rng(0)
    stems = [f'boston/{album}__{i}' for album, i in zip((*ALBUMS[:2], *ALBUMS), range(5), strict=True)] + ['misc/paris__0']
    for stem in stems:
        for part, suffix, shape, top in (('img_dir', '.jpg', (96, 128, 3), 256), ('ann_dir', '.png', (96, 128), 8)):
            path = folder / 'labelmefacade' / part / f'{stem}{suffix}'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, top, shape, np.uint8))
    model = MODELS.build(Config.fromfile(FOLDER / 'cgnet_ft_boston.py').model.backbone)
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith('running_mean'):
            value.normal_(0, 0.5)
        elif name.endswith('running_var'):
            value.uniform_(0.5, 2)
    torch.save({f'backbone.{name}': value for name, value in state.items()}, folder / 'cgnet_m3n21_camvid11_mmseg.pth')
    return folder


@pytest.fixture
def train(street, tmp_path, monkeypatch):
    """Two iterations and a validation of a config; returns the weights before and after, and the runner."""
    monkeypatch.setenv('STREET_DATA', str(street))
    monkeypatch.setenv('STREET_WEIGHTS', str(street))

    def run(method: str, **options):
        cfg = Config.fromfile(FOLDER / f'cgnet_{method}_boston.py')
        cfg.merge_from_dict({'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'train_dataloader.batch_size': 2, **options})
        cfg.work_dir, cfg.experiment_name = str(tmp_path / method), f'street_{method}'
        cfg.visualizer.name, cfg.log_level = cfg.experiment_name, 'WARNING'
        runner = Runner.from_cfg(cfg)
        runner.train()
        after = torch.load(tmp_path / method / 'iter_2.pth', weights_only=False)['state_dict']
        before = torch.load(street / 'cgnet_m3n21_camvid11_mmseg.pth', weights_only=True)
        return before, after, runner

    return run


def changed(before: dict, after: dict) -> set[str]:
    """The kinds of entries of the backbone that differ: weight (convolutions and all else learnt) or statistic."""
    kinds = set()
    for name, value in before.items():
        if 'num_batches' not in name and not torch.equal(value, after[name]):
            kinds.add('statistic' if 'running' in name else 'weight')
    return kinds


@pytest.mark.slow
def test_linear_probing_moves_the_head_alone_and_lp_ft_starts_from_it(train, tmp_path):
    before, probed, runner = train('lp')
    assert changed(before, probed) == set()
    assert probed[HEAD[0]].abs().max() > 0
    assert {group['name'] for group in runner.optim_wrapper.param_groups if 'name' in group} == {'head'}
    key = 'model.init_cfg.checkpoint'
    tiny = {f'optim_wrapper.paramwise_cfg.{rate}': 1e-12 for rate in ('feature_lr', 'head_lr')}
    _, start, _ = train('lp_ft', **{key: str(tmp_path / 'lp/iter_2.pth')}, **tiny)
    for name in HEAD:
        torch.testing.assert_close(start[name], probed[name])
    _, tuned, _ = train('lp_ft', **{key: str(tmp_path / 'lp/iter_2.pth')})
    assert changed(before, tuned) == {'weight'}


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_tuning_moves_features_and_statistics_from_the_heads_start(train, tmp_path, method):
    tiny = {f'optim_wrapper.paramwise_cfg.{rate}': 1e-12 for rate in ('feature_lr', 'head_lr')}
    _, start, _ = train(method, **tiny)
    size = start[HEAD[0]].abs().max()
    assert size < 1e-9 if method in ('integrated', 'daft') else size > 1e-3
    assert (tmp_path / method / 'daft_converted.pth').is_file() == (method in ('ft_conversion', 'daft'))
    before, tuned, runner = train(method)
    assert changed(before, tuned) == {'weight', 'statistic'}
    rates = {group['name']: group['initial_lr'] for group in runner.optim_wrapper.optimizer.param_groups}
    assert (rates['features'] == rates['head']) == (method in ('ft', 'ft_conversion'))
