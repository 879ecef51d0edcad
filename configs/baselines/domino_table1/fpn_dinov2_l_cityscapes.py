"""Domino, Table 1, ViT-L/14: DINOv2 with registers, all of it trained, a pyramid of four blocks, the FPN decoder of ResNet-50.
Patches have 14 pixels, as in the paper; crops of 512 pixels are padded to whole patches.
"""

_base_ = [
    '../../_base_/models/vfm_fpn.py',
    '../../_base_/models/cityscapes_class_weight.py',
    '../../_base_/datasets/cityscapes_to_acdc_512x512.py',
    '../../_base_/schedules/adamw_80k.py',
]
model = dict(
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_val=0,
        seg_pad_val=255, size=(512, 512),
    ),
    backbone=dict(
        type='VFMBackbone', model_name='vit_large_patch14_reg4_dinov2.lvd142m', img_size=518,
        # timm's download, or a local file named by the variable
        weights='{{$DINOV2_REG_L_WEIGHTS:timm}}',
    ),
    decode_head=dict(loss_decode=dict(class_weight={{_base_.class_weight}})),
)  # fmt: skip
