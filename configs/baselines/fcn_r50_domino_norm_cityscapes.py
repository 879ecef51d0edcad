"""DominoNorm in a head that knows nothing of it: mmseg's FCNHead on a ResNet-50, through norm_cfg alone."""

_base_ = './fpn_r50_domino_cityscapes.py'
model = dict(
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        num_convs=2,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=dict(type='DominoNorm', stats='SyncBN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
