"""80k iterations of AdamW as in VPD and Domino: 8e-5, decay 1e-3, U-Net x0.1, linear to 0 under a warm-up of 1500 iterations.

The decay starts at iteration 0, as in VPD: lr(t) = lr * (1 - t / 80000) * min(1, 1e-6 + (1 - 1e-6) * t / 1500).
"""

_base_ = '../default_runtime.py'
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='VPDOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=8e-5, weight_decay=1e-3),
    paramwise_cfg=dict(unet_lr_mult=0.1, clip_lr_mult=0.1),
)
# mmengine multiplies the two; its schedulers arrive one iteration before their end
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1501),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=80001, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# the best checkpoint is chosen on the source domain: choosing it on the target would be training on the test
best_on_source = dict(save_best='mIoU.cityscapes', rule='greater')
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=8000, max_keep_ckpts=2, **best_on_source))
