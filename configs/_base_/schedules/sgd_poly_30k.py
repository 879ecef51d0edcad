"""30k iterations of SGD (momentum 0.9, decay 1e-4), polynomial 0.9 to 0 without warm-up; each config sets its two rates.

The decay also pulls converted gammas back: over the whole schedule by 1.6 % at rate 0.01 and by 15 % at 0.1;
paramwise_cfg.norm_decay_mult=0 spares them.
"""

_base_ = '../default_runtime.py'
optim_wrapper = dict(
    type='OptimWrapper', constructor='DAFTOptimWrapperConstructor', optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4)
)
# eta_min holds for both rates alike: anything but 0 could lift the lower one
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=30000, by_epoch=False)]
# The final weights are tested, as in the paper: no checkpoint is chosen by its validation.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=30000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=5000, max_keep_ckpts=2))
