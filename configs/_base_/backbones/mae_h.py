"""MAE ViT-H, 1280 channels; the weights are for non-commercial use.

Combined with a head as in ../models/dinov2_l_fpn.py.
"""

backbone = dict(
    type='VFMBackbone',
    model_name='vit_huge_patch14_224.mae',
    out_indices=(7, 15, 23, 31),
    img_size=512,
    patch_size=16,
    # timm's download, or a local file named by the variable
    weights='{{$MAE_H_WEIGHTS:timm}}',
)
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
    pad_val=0, seg_pad_val=255, size=(512, 512),
)  # fmt: skip
