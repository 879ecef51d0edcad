"""A tiny ResNet-18 with a linear head of zeros on drawn streets: integrated LP-FT, and pretraining, of the toy suite."""

_base_ = ['../_base_/datasets/toydrive.py', '../_base_/schedules/sgd_poly_120.py']
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(64, 128)
    ),
    backbone=dict(
        type='ResNet', depth=18, base_channels=16, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), norm_cfg=norm_cfg,
        norm_eval=False,
    ),
    decode_head=dict(
        type='FCNHead', in_channels=128, in_index=3, channels=128, num_convs=0, concat_input=False, dropout_ratio=0,
        num_classes=6, norm_cfg=norm_cfg, align_corners=False, loss_decode=dict(type='CrossEntropyLoss'),
        init_cfg=dict(type='Constant', val=0, bias=0, override=dict(name='conv_seg')),
    ),
    train_cfg=dict(), test_cfg=dict(mode='whole'),
)  # fmt: skip
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.01, head_lr=0.1))
train_dataloader = dict(dataset=dict(size=(64, 128)))
val_dataloader = dict(dataset=dict(size=(64, 128)))
test_dataloader = val_dataloader
