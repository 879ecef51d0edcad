"""DINOv2-L with four register tokens.

Combined with a head as in ../models/dinov2_l_fpn.py.
"""

backbone = dict(
    type='VFMBackbone',
    model_name='vit_large_patch14_reg4_dinov2.lvd142m',
    out_indices=(7, 11, 15, 23),
    img_size=512,
    patch_size=16,
    # timm's download, or a local file named by the variable
    weights='{{$DINOV2_REG_L_WEIGHTS:timm}}',
)
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
    pad_val=0, seg_pad_val=255, size=(512, 512),
)  # fmt: skip
