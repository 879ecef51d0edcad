"""Linear probe of DINOv2-L, from Cityscapes: the frozen backbone and one 1x1 convolution on its last map.

DINOv2's own protocol has a batch norm before the convolution; it is left out, so that nothing but the convolution is learned.
"""

_base_ = '../../fishertune/cityscapes/dinov2_l_freeze_cityscapes.py'
head = dict(
    _delete_=True, type='FCNHead', in_channels=1024, channels=1024, in_index=0, num_convs=0, concat_input=False, num_classes=19,
    dropout_ratio=0, norm_cfg=None, align_corners=False, loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
)  # fmt: skip
model = dict(backbone=dict(out_indices=(23,)), neck=None, decode_head=head)
