"""120 iterations of SGD (momentum 0.9, decay 1e-4), polynomial to 0 without warm-up; each config sets its two rates."""

_base_ = '../default_runtime.py'
optim_wrapper = dict(
    type='OptimWrapper', constructor='DAFTOptimWrapperConstructor', optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4)
)
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=120, by_epoch=False)]
# The final weights are tested, as in the paper: no checkpoint is chosen by its validation.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=120, val_interval=120)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=40, max_keep_ckpts=2),
)
