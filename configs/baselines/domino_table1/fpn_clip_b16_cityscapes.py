"""Domino, Table 1, CLIP ViT-B/16: value-projection features in the last block (MaskCLIP), the FPN decoder of ResNet-50.
What differs from MaskCLIP+ stands in the docstring of MaskCLIPBackbone.
"""

_base_ = [
    '../../_base_/models/vfm_fpn.py',
    '../../_base_/models/cityscapes_class_weight.py',
    '../../_base_/datasets/cityscapes_to_acdc_512x512.py',
    '../../_base_/schedules/adamw_80k.py',
]
model = dict(
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323], bgr_to_rgb=True, pad_val=0,
        seg_pad_val=255, size=(512, 512),
    ),
    backbone=dict(
        type='MaskCLIPBackbone', model_name='vit_base_patch16_clip_quickgelu_224.openai', out_indices=(2, 5, 8, 11),
        img_size=512,
        # timm's download, or a local file named by the variable
        weights='{{$CLIP_B16_WEIGHTS:timm}}',
    ),
    decode_head=dict(loss_decode=dict(class_weight={{_base_.class_weight}})),
)  # fmt: skip
