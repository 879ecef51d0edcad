"""DeepLabv3+ at output stride 16 on a MoCo-v2 ResNet-50 (800 epochs), the network of DAFT's segmentation table.

DAFT names network and weights alone; the rest is the public code whose numbers it shares (VainF/DeepLabV3Plus-Pytorch).
Deviation: the head's 3x3 convolutions are depthwise separable, as in mmseg. SyncBN over the 16 images instead of plain
BN per GPU.
"""

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, size=(513, 513),
    ),
    backbone=dict(
        type='ResNet', depth=50, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), contract_dilation=True,
        norm_cfg=dict(type='SyncBN', requires_grad=True, momentum=0.01), norm_eval=False,
        # python tools/model_converters/resnet.py moco_v2_800ep_pretrain.pth.tar data/weights/mocov2_r50_800ep.pth
        init_cfg=dict(type='Pretrained', checkpoint='{{$DAFT_WEIGHTS:data/weights}}/mocov2_r50_800ep.pth'),
    ),
    # no auxiliary head; fresh layers are random, as the paper asks of a head of several layers
    decode_head=dict(
        type='DepthwiseSeparableASPPHead', in_channels=2048, in_index=3, channels=256, dilations=(1, 6, 12, 18),
        c1_in_channels=256, c1_channels=48, dropout_ratio=0.1, num_classes=21, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(), test_cfg=dict(mode='whole'),
)  # fmt: skip
