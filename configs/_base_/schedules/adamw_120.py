"""120 iterations of AdamW: the head learns from the first, the backbone with a tenth of its rate."""

_base_ = '../default_runtime.py'
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1)), norm_decay_mult=0.0),
)  # fmt: skip
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=120, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=120, val_interval=120)
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=40, max_keep_ckpts=2),
)
