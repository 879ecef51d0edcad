"""CGNet on CamVid's 11 classes, from the published CamVid weights: a small convolutional yardstick, and a check of the data."""

_base_ = ['../../_base_/datasets/camvid.py', '../../_base_/default_runtime.py']
norm_cfg = dict(type='BN', eps=1e-3, requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[110.331, 108.409, 105.033], std=[1.0] * 3, bgr_to_rgb=True, pad_val=0, seg_pad_val=255,
        size=(320, 320),
    ),
    backbone=dict(
        type='CGNet', norm_cfg=norm_cfg, in_channels=3, num_channels=(32, 64, 128), num_blocks=(3, 21), dilations=(2, 4),
        reductions=(8, 16),
    ),
    decode_head=dict(
        type='FCNHead', in_channels=256, in_index=2, channels=256, num_convs=0, concat_input=False, dropout_ratio=0,
        num_classes=11, norm_cfg=norm_cfg, align_corners=False, loss_decode=dict(type='CrossEntropyLoss'),
    ),
    init_cfg=dict(type='Pretrained', checkpoint='{{$STREET_WEIGHTS:../shared/weights}}/cgnet_m3n21_camvid11_mmseg.pth'),
    train_cfg=dict(), test_cfg=dict(mode='whole'),
)  # fmt: skip
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4, weight_decay=5e-4))
param_scheduler = [dict(type='PolyLR', eta_min=1e-6, power=0.9, begin=0, end=1000, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
