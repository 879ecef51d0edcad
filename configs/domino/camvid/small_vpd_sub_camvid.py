"""Small VPD with Domino-Sub: CamVid by day -> dusk and Boston, 300 iterations on a CPU."""

_base_ = [
    '../../_base_/models/small_vpd.py',
    '../../_base_/datasets/camvid_streetsix.py',
    '../../_base_/default_runtime.py',
]
model = dict(backbone=dict(fuse='sub'))
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='VPDOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=1e-3),
    # nothing here but the VAE is pretrained, so every part learns at the same rate
    paramwise_cfg=dict(unet_lr_mult=1.0, clip_lr_mult=1.0),
    clip_grad=dict(max_norm=1.0),
)
# VPD's rule, see _base_/schedules/adamw_80k.py
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=31),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=301, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300, val_interval=300)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=2),
)
