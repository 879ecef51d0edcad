"""VPD baseline: SD-1.5 U-Net, FPN, FPN head with 256 channels, 19 classes; the paper's 868 M parameters."""

_base_ = './cityscapes_class_weight.py'
norm_cfg = dict(type='SyncBN', requires_grad=True)
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(512, 512),
)
model = dict(
    type='DomainAwareEncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='VPDBackbone',
        pretrained='stable-diffusion-v1-5/stable-diffusion-v1-5',
        class_embeddings=dict(path='data/embeddings/cityscapes.safetensors', classes='CityscapesDataset'),
    ),
    neck=dict(type='FPN', out_channels=256, num_outs=4),
    decode_head=dict(
        type='FPNHead',
        in_channels=[256, 256, 256, 256],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=256,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0, class_weight={{_base_.class_weight}}),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
