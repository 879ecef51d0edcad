"""Quickstart: a tiny random VPD with Domino-Sub learns drawn street scenes in clear weather, and is tested in fog, night,
rain and snow; two minutes on two CPU cores. It shows that everything runs, not how well Domino works.
"""

_base_ = ['../_base_/models/tiny_vpd.py', '../_base_/datasets/toydrive.py', '../_base_/default_runtime.py']
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='VPDOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-3),
    paramwise_cfg=dict(unet_lr_mult=1.0, clip_lr_mult=0.1),
    clip_grad=dict(max_norm=1.0),
)
# VPD's rule, see _base_/schedules/adamw_80k.py
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=21),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=201, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=200, val_interval=200)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=200, max_keep_ckpts=2),
)
