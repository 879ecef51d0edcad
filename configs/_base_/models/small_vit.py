# A pre-norm ViT of 5.5 M parameters with patches of 10 pixels, for images of 320x240, and a convolution as head.
norm_cfg = dict(type='BN', requires_grad=True)
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, size=(200, 200), pad_val=0, seg_pad_val=255,
    test_cfg=dict(size_divisor=10),
)  # fmt: skip
model = dict(
    type='DomainAwareEncoderDecoder', data_preprocessor=data_preprocessor,
    backbone=dict(
        type='VFMBackbone', model_name='vit_tiny_patch16_224', pretrained=False, patch_size=10, img_size=200, out_indices=(11,),
    ),
    decode_head=dict(
        type='FCNHead', in_channels=192, in_index=0, channels=96, num_convs=1, concat_input=False, dropout_ratio=0.1,
        num_classes=6, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True, loss_weight=1.0),
    ),
    train_cfg=dict(), test_cfg=dict(mode='whole'),
)  # fmt: skip
