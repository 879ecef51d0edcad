"""A light segmentor for foundation models and small GPUs: pyramid, FPN, semantic FPN head; any file of ../backbones."""

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='DomainAwareEncoderDecoder',
    # the channels are the backbone's
    neck=dict(type='ScalePyramid', scales=(4, 2, 1, 0.5), neck=dict(type='FPN', out_channels=256, num_outs=4)),
    decode_head=dict(
        type='FPNHead', in_channels=[256] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32], channels=128,
        dropout_ratio=0.1, num_classes=19, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(), test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)  # fmt: skip
