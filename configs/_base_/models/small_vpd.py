"""A small VPD for two CPU cores: TAEF2 latents (pretrained), an 8 M parameter U-Net from scratch, VPD's own CLIP class
embeddings of the six street classes, and a small CLIP-like image tower from scratch with random descriptions for W.
"""

weights_root = '{{$STREET_WEIGHTS:../shared/weights}}'
size = (192, 192)
data_preprocessor = dict(
    type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=size
)
tower = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, patch_size=16, projection_dim=768)
unet = dict(block_out_channels=(48, 96, 128, 128), layers_per_block=1, attention_head_dim=4, norm_num_groups=16, in_channels=32)
model = dict(
    type='DomainAwareEncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='VPDBackbone',
        architecture=dict(unet=unet, vae=dict(type='TinyEncoder', latent_channels=32)),
        latent_dtype='bfloat16',
        pretrained=dict(vae=weights_root + '/taef2_encoder.pth'),
        class_embeddings=dict(
            path=weights_root + '/vpd_class_embeddings_ade20k.pth',
            row_names='ADE20KDataset',
            classes='StreetSixDataset',
            aliases=dict(pavement='sidewalk', vegetation='tree'),
            subset=True,
        ),
    ),
    neck=dict(type='FPN', out_channels=64, num_outs=4),
    decode_head=dict(
        type='DominoFPNHead', in_channels=[64] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32], channels=64,
        dropout_ratio=0.1, num_classes=6, align_corners=False, loss_decode=dict(type='CrossEntropyLoss'),
    ),
    domain_embedding=dict(
        type='DomainEmbedding',
        descriptions=dict(provider='hash', classes=['clear', 'cloudy', 'dusk', 'night'], dim=768, projected_dim=768),
        image_encoder=dict(model='small', config=tower, pretrained=None, trainable=True, image_size=64),
        temperature=0.07, learnable_temperature=True,
    ),
    train_cfg=dict(), test_cfg=dict(mode='whole'),
)  # fmt: skip
