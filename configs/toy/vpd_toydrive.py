"""The tiny VPD without a domain embedding on drawn streets: the row VPD of the toy suite, and its pretraining."""

_base_ = './vpd_domino_toydrive.py'
model = dict(
    backbone=dict(fuse='none'),
    decode_head=dict(
        _delete_=True, type='FPNHead', in_channels=[48] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32], channels=48,
        dropout_ratio=0.1, num_classes=6, norm_cfg=dict(type='BN'), align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    domain_embedding=None,
)  # fmt: skip
