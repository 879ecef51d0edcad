"""A tiny training run that the tool tests share: six synthetic images, real mmseg components."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

CONFIG = """
_base_ = ['{base}']
classes = ['left', 'right']
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
dataset = dict(
    type='BaseSegDataset',
    metainfo=dict(classes=classes, palette=[[255, 0, 0], [0, 0, 255]]),
    data_root='{data}',
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    img_suffix='.png',
    seg_map_suffix='.png',
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(pipeline=test_pipeline, **dataset),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, size=(32, 48), seg_pad_val=255
    ),
    backbone=dict(
        type='ResNet', depth=18, base_channels=4, norm_cfg=dict(type='SyncBN'), num_stages=1, strides=(1,),
        dilations=(1,), out_indices=(0,)
    ),
    decode_head=dict(
        type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=2, norm_cfg=dict(type='SyncBN')
    ),
    test_cfg=dict(mode='whole'),
)
"""


def write_tiny_run(folder: Path, root: Path) -> Path:
    """Write six images of two halves and a config for them; return the config's path."""
    rng = np.random.default_rng(0)
    for name in ('images', 'labels'):
        (folder / 'data' / name).mkdir(parents=True)
    for index in range(6):
        label = np.zeros((32, 48), np.uint8)
        label[:, 24:] = 1
        image = np.where(label[..., None] == 1, 200, 50) + rng.integers(-20, 20, (32, 48, 3))
        Image.fromarray(image.astype(np.uint8)).save(folder / 'data' / 'images' / f'{index}.png')
        Image.fromarray(label).save(folder / 'data' / 'labels' / f'{index}.png')
    config = folder / 'tiny.py'
    config.write_text(CONFIG.format(base=root / 'configs/_base_/default_runtime.py', data=folder / 'data'))
    return config


def call(script: Path, *arguments, cwd: Path, pythonpath: str = '') -> subprocess.CompletedProcess:
    """Run a script of ours in a fresh interpreter without a GPU, and return what it said."""
    environment = os.environ | {'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1', 'PYTHONPATH': pythonpath}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def run_main(script: Path, monkeypatch, *arguments) -> None:
    """Run a script of ours in this process, as `python script arguments` would."""
    monkeypatch.setattr(sys, 'argv', [script.name, *map(str, arguments)])
    monkeypatch.setattr(sys, 'path', list(sys.path))
    runpy.run_path(str(script), run_name='__main__')
