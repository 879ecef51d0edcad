"""Suites of finished runs, as small as they can be."""

import json
from pathlib import Path

import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_dafm.experiments.suites.suite_load import load_suite
from tests.experiments.suites.common import scores, write_scores, write_suite

CLASSES = ['road', 'pavement', 'building', 'vegetation', 'sky', 'car']
TITLE = '<b>&"x"'
TEXT = """
title = TITLE
runs = [
    dict(name='freeze', title='Freeze', group='ViT', folder=FREEZE, paper=dict(fog=30.5)),
    dict(name='full', title=TITLE, group='ViT', folder=FULL, paper=dict(fog=33.25), errata=dict(fog='a <misprint>')),
    dict(name='none', title='Nothing yet', group='CNN', config=CONFIG),
]
columns = [dict(name='fog', title='Fog', value='fog/mIoU'), dict(name='night', value='night/mIoU')]
notes = ['Notes & more.']
"""


def fake_suite(tmp_path: Path, **protocol):
    """Two methods with two seeds whose checkpoints are gone, and one that was not run; ``protocol`` is that of the second."""
    for i in range(2):
        freeze, full = [30.0 + i, 50.5, 0.0, None, 99.0, 20.0], [40.0 + i, 60.5, 1.0, None, 98.0, 20.0]
        write_scores(tmp_path / f'freeze{i}', classes=CLASSES, fog=freeze, night=20.0)
        write_scores(tmp_path / f'full{i}', classes=CLASSES, fog=full, night=41.0, protocol=protocol)
    text = TEXT.replace('TITLE', repr(TITLE))
    for name in ('freeze', 'full'):
        text = text.replace(name.upper(), repr([str(tmp_path / f'{name}{i}') for i in range(2)]))
    return load_suite(write_suite(tmp_path, text))


def toy_run(root: Path, folder: Path, seed: int = 0) -> Path:
    """A folder with config, checkpoint and results of a tiny ResNet that was never trained."""
    cfg = Config.fromfile(str(root / 'configs/toy/resnet_eval_toydrive.py'))
    cfg.test_dataloader.dataset.update(length=20, size=(32, 64))
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='gone/weights.pth')
    folder.mkdir(parents=True)
    cfg.dump(folder / 'toy.py')
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(seed)
    meta = {'dataset_meta': {'classes': CLASSES}}
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': meta}, folder / 'iter_20.pth')
    content = scores(classes=CLASSES, clear=50.0, fog=40.0 + seed, protocol=dict(config='toy'))
    (folder / 'domain_iou_iter_20.json').write_text(json.dumps(content))
    return folder


def toy_suite(root: Path, tmp_path: Path):
    """Two such runs as a suite; titles of 26 letters and many columns, so that a narrow page must scroll them."""
    folders = [str(toy_run(root, tmp_path / f'run{i}', i)) for i in range(2)]
    title = 'A method with a long name{}'.format
    runs = [dict(name=f'run{i}', title=title(i), group='group', folder=folder) for i, folder in enumerate(folders)]
    values = ['fog/mIoU', 'clear/mIoU'] * 4
    columns = [dict(name=f'column{i}', title=f'a long heading {i}', value=value) for i, value in enumerate(values)]
    text = f'title = "A title that is too long for a phone"\nruns = {runs!r}\ncolumns = {columns!r}\n'
    return load_suite(write_suite(tmp_path, text))
