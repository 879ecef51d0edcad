"""CGNet whose backbone comes from the published CamVid weights, with a fresh linear head of zeros for eight classes."""

norm_cfg = dict(type='BN', eps=1e-3, requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[110.331, 108.409, 105.033], std=[1.0] * 3, bgr_to_rgb=True, pad_val=0, seg_pad_val=255,
        size=(192, 192),
    ),
    backbone=dict(
        type='CGNet', norm_cfg=norm_cfg, in_channels=3, num_channels=(32, 64, 128), num_blocks=(3, 21), dilations=(2, 4),
        reductions=(8, 16),
        init_cfg=dict(
            type='Pretrained', prefix='backbone.',
            checkpoint='{{$STREET_WEIGHTS:../shared/weights}}/cgnet_m3n21_camvid11_mmseg.pth',
        ),
    ),
    decode_head=dict(
        type='FCNHead', in_channels=256, in_index=2, channels=256, num_convs=0, concat_input=False, dropout_ratio=0,
        num_classes=8, norm_cfg=norm_cfg, align_corners=False, loss_decode=dict(type='CrossEntropyLoss'),
        init_cfg=dict(type='Constant', val=0, bias=0, override=dict(name='conv_seg')),
    ),
    train_cfg=dict(), test_cfg=dict(mode='whole'),
)  # fmt: skip
