"""Pretraining of the small ViT, from random weights: eight classes on the Boston photos of LabelMeFacade, 600 iterations
(25 minutes on one CPU core). It stands for the foundation model of the experiment in docs/results.md.
"""

_base_ = [
    '../../_base_/models/small_vit.py',
    '../../_base_/datasets/labelmefacade_boston.py',
    '../../_base_/schedules/adamw_120.py',
]
model = dict(decode_head=dict(num_classes=8))
train_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(320, 240), ratio_range=(0.84, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(200, 200), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDomainInputs'),
]
train_dataloader = dict(dataset=dict(albums=None, pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=50, end=600, by_epoch=False),
]
train_cfg = dict(max_iters=600, val_interval=600)
