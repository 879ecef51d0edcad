"""Domino, Table 1, CLIP RN101: its last map goes through the value projection of the attention pooling (MaskCLIP), the FPN
decoder of ResNet-50. As with fpn_clip_b16, no pseudo labels and no text classifier.
"""

_base_ = '../fpn_r50_cityscapes.py'
model = dict(
    data_preprocessor=dict(mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323]),
    backbone=dict(
        _delete_=True, type='TIMMPyramid', model_name='resnet101_clip.openai', value_features=True,
        # timm's download, or a local file named by the variable
        weights='{{$CLIP_R101_WEIGHTS:timm}}',
    ),
    # its channels are the backbone's: 256, 512, 1024, and 512 of CLIP's text space
    neck=dict(_delete_=True, type='FPN', out_channels=256, num_outs=4),
)  # fmt: skip
