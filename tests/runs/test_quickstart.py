"""The quickstart config, shortened to two iterations: train, validate, TTA, MMSegInferencer, an auxiliary head.

That mmseg's own tools/train.py trains the same file is shown in tests/tools.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.apis import MMSegInferencer

from mmseg_dafm.datasets.toydrive.dataset import draw_path, drawn_path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs' / 'quickstart' / 'domino_sub_toydrive.py'
SHORT = {
    'train_cfg.max_iters': 2,
    'train_cfg.val_interval': 2,
    'default_hooks.checkpoint.interval': 2,
    'default_hooks.logger.interval': 1,
    'val_dataloader.dataset.length': 5,
    'test_dataloader.dataset.length': 5,
}


def shortened(work_dir, **changes):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({**SHORT, **changes, 'work_dir': str(work_dir), 'experiment_name': work_dir.name})
    # visualizers of one name are one object in a process, and it would go on writing to the first run's folder
    cfg.visualizer.name = work_dir.name
    return cfg


def scalars(work_dir):
    lines = next(work_dir.rglob('scalars.json')).read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('quickstart')
    with DefaultScope.overwrite_default_scope('mmseg'):
        Runner.from_cfg(shortened(work_dir)).train()
    return work_dir


@pytest.mark.slow
def test_it_trains_validates_per_condition_and_logs_the_entropy_of_alpha(trained):
    found = scalars(trained)
    steps = [line for line in found if 'loss' in line]
    assert len(steps) == 2
    for line in steps:
        assert np.isfinite(line['loss'])
        assert 0 < line['domain_alpha_entropy'] <= np.log(5) + 1e-6
    validation = next(line for line in found if 'mIoU' in line)
    assert {'mIoU.clear', 'mIoU.fog', 'mIoU.night', 'mIoU.rain', 'mIoU.snow'} <= validation.keys()
    assert (trained / 'iter_2.pth').is_file()


@pytest.mark.slow
def test_test_time_augmentation_tests_the_checkpoint(trained, tmp_path):
    options = [f'{key}={value}' for key, value in SHORT.items() if key.startswith('test')]
    command = [sys.executable, ROOT / 'tools/test.py', CONFIG, trained / 'iter_2.pth', '--tta', '--work-dir', tmp_path / 'work',
               '--cfg-options', *options]  # fmt: skip
    env = os.environ | {'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    result = subprocess.run([*map(str, command)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    table = json.loads((tmp_path / 'work' / 'domain_iou_iter_2_tta.json').read_text())
    assert set(table['summary']['domains']) == {'clear', 'fog', 'night', 'rain', 'snow'}
    assert table['protocol']['tta'] is True


@pytest.mark.parametrize('size', [(128, 256), (90, 150)])
def test_mmsegs_inferencer_takes_an_image_file_of_any_size(trained, tmp_path, size):
    image = draw_path(drawn_path(5, (128, 256), 'night', 0))
    path = tmp_path / 'street.png'
    cv2.imwrite(str(path), cv2.resize(image, size[::-1]))
    inferencer = MMSegInferencer(str(CONFIG), str(trained / 'iter_2.pth'), device='cpu')
    labels = inferencer(str(path), return_vis=True)
    assert labels['predictions'].shape == size
    assert set(np.unique(labels['predictions'])) <= set(range(6))
    assert labels['visualization'].shape == (*size, 3)
    # a picture in memory, as the loading transform would read it, gives the same labels
    again = inferencer(cv2.imread(str(path)))['predictions']
    assert np.array_equal(again, labels['predictions'])


@pytest.mark.slow
def test_an_auxiliary_head_is_trained_and_costs_nothing_in_test(tmp_path):
    head = dict(
        type='FCNHead', in_channels=48, in_index=2, channels=16, num_convs=1, num_classes=6, norm_cfg=dict(type='DominoNorm'),
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
    )  # fmt: skip
    cfg = shortened(tmp_path, **{'model.auxiliary_head': head, 'val_dataloader.dataset.length': 5})
    runner = Runner.from_cfg(cfg)
    before = runner.model.auxiliary_head.conv_seg.weight.detach().clone()
    runner.train()
    assert all('aux.loss_ce' in line for line in scalars(tmp_path) if 'loss' in line)
    assert not torch.equal(runner.model.auxiliary_head.conv_seg.weight, before)
    called = []
    runner.model.auxiliary_head.register_forward_hook(lambda *_: called.append(1))
    runner.test()
    assert called == []
