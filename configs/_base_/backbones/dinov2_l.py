"""DINOv2-L at 16 x 16 pixel patches and 512 x 512 positions (304.2 M parameters), the backbone of Rein and FisherTune.

Combined with a head as in ../models/dinov2_l_fpn.py.
"""

backbone = dict(
    type='VFMBackbone',
    model_name='vit_large_patch14_dinov2.lvd142m',
    out_indices=(7, 11, 15, 23),
    img_size=512,
    patch_size=16,
    # timm's download, or a local file named by the variable
    weights='{{$DINOV2_L_WEIGHTS:timm}}',
)
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
    pad_val=0, seg_pad_val=255, size=(512, 512),
)  # fmt: skip
