"""The quickstart's tiny VPD with Domino-Sub at half its size; `model.backbone.fuse=add` or `token` are other rows."""

_base_ = '../quickstart/domino_sub_toydrive.py'
model = dict(data_preprocessor=dict(size=(64, 128)))
train_dataloader = dict(dataset=dict(size=(64, 128)))
val_dataloader = dict(dataset=dict(size=(64, 128)))
test_dataloader = val_dataloader
# VPD's rule, see _base_/schedules/adamw_80k.py
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=16),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=121, by_epoch=False),
]
train_cfg = dict(max_iters=120, val_interval=120)
