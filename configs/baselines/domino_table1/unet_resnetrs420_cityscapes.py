"""Domino, Table 1, ResNetRS-420 in U-Net form, supervised on ImageNet: timm's encoder from stride 2 on, four steps of a decoder.
The widths of the paper's decoder are not published; with these it is 199 M parameters, the paper prints 205 M.
"""

_base_ = '../fpn_r50_cityscapes.py'
model = dict(
    backbone=dict(
        _delete_=True, type='TIMMPyramid', model_name='resnetrs420.tf_in1k', out_indices=(0, 1, 2, 3, 4),
        # timm's download, or a local file named by the variable
        weights='{{$RESNETRS420_WEIGHTS:timm}}',
    ),
    neck=None,
    decode_head=dict(
        _delete_=True, type='UNetHead', channels=[256, 128, 64, 32], dropout_ratio=0.1, num_classes=19,
        norm_cfg={{_base_.norm_cfg}}, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0, class_weight={{_base_.class_weight}}),
    ),
)  # fmt: skip
