"""Image tower of OpenAI's CLIP ViT-L/14, with the normalisation that it was trained with.

Combined with a head as in ../models/dinov2_l_fpn.py.
"""

backbone = dict(
    type='VFMBackbone',
    model_name='vit_large_patch14_clip_quickgelu_224.openai',
    out_indices=(7, 11, 15, 23),
    img_size=512,
    patch_size=16,
    # timm's download, or a local file named by the variable
    weights='{{$CLIP_L_WEIGHTS:timm}}',
)
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323], bgr_to_rgb=True,
    pad_val=0, seg_pad_val=255, size=(512, 512),
)  # fmt: skip
