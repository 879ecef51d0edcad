"""CGNet on CamVid's 11 classes, from the published CamVid weights: a small convolutional yardstick, and a check of the data."""

_base_ = ['../../_base_/models/cgnet_camvid11.py', '../../_base_/datasets/camvid.py', '../../_base_/default_runtime.py']
model = dict(
    data_preprocessor=dict(size=(320, 320)),
    decode_head=dict(num_classes=11),
    # the head's weights too
    init_cfg=dict(type='Pretrained', checkpoint='{{$STREET_WEIGHTS:../shared/weights}}/cgnet_m3n21_camvid11_mmseg.pth'),
)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4, weight_decay=5e-4))
param_scheduler = [dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=0, end=1000, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
