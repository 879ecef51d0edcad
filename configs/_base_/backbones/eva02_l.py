"""EVA02-L after masked image modelling on 38 M images, with the normalisation that it was trained with.

Combined with a head as in ../models/dinov2_l_fpn.py.
"""

backbone = dict(
    type='VFMBackbone',
    model_name='eva02_large_patch14_224.mim_m38m',
    out_indices=(7, 11, 15, 23),
    img_size=512,
    patch_size=16,
    drop_path_rate=0.2,  # as in Rein's runs with EVA02
    # timm's download, or a local file named by the variable
    weights='{{$EVA02_L_WEIGHTS:timm}}',
)
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323], bgr_to_rgb=True,
    pad_val=0, seg_pad_val=255, size=(512, 512),
)  # fmt: skip
