"""A tiny VPD with random weights for the quickstart and for tests: nothing is downloaded, half a minute of training."""

_base_ = './tiny_domain_embedding.py'
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(128, 256)
)
unet = dict(
    block_out_channels=(32, 64, 64, 64), layers_per_block=1, cross_attention_dim=64, attention_head_dim=2, norm_num_groups=8,
    in_channels=16,
)  # fmt: skip
vae = dict(
    type='AutoencoderTiny', latent_channels=16, encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(8,) * 4,
    num_encoder_blocks=(0,) * 4, num_decoder_blocks=(0,) * 4,
)  # fmt: skip
model = dict(
    type='DomainAwareEncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='VPDBackbone',
        fuse='sub',
        architecture=dict(unet=unet, vae=vae),
        pretrained=None,
        latent_scale=60.0,  # brings the latents of a random encoder to about unit variance
        class_embeddings=dict(provider='hash', classes='ToyDriveDataset', dim=64),
    ),
    neck=dict(type='FPN', out_channels=48, num_outs=4),
    decode_head=dict(
        type='DominoFPNHead', in_channels=[48] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32], channels=48,
        hidden_channels=32, dropout_ratio=0.1, num_classes=6, align_corners=False, loss_decode=dict(type='CrossEntropyLoss'),
    ),
    domain_embedding={{_base_.domain_embedding}},
    train_cfg=dict(), test_cfg=dict(mode='whole'),
)  # fmt: skip
