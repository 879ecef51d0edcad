"""Tiny models that the tests build: everything real but the sizes."""

UNET = dict(
    block_out_channels=(16, 16, 32, 32),
    layers_per_block=1,
    cross_attention_dim=16,
    attention_head_dim=2,
    norm_num_groups=4,
    sample_size=8,
)
VAE = dict(
    type='AutoencoderKL',
    in_channels=3,
    latent_channels=4,
    block_out_channels=(8, 8, 8, 8),
    norm_num_groups=4,
    layers_per_block=1,
    down_block_types=('DownEncoderBlock2D',) * 4,
    up_block_types=('UpDecoderBlock2D',) * 4,
    scaling_factor=0.18215,
)
CLASSES = ('road', 'pavement', 'building', 'vegetation', 'sky', 'car')
DOMAINS = ('clear', 'fog', 'night')
CLIP = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=8, projection_dim=12)


def vpd_backbone(**kwargs) -> dict:
    """Config of a tiny VPDBackbone."""
    return {
        **dict(
            type='VPDBackbone',
            architecture=dict(unet=UNET, vae=VAE),
            pretrained=None,
            class_embeddings=dict(provider='hash', classes=CLASSES, dim=16),
        ),
        **kwargs,
    }


def domain_embedding(**kwargs) -> dict:
    """Config of a tiny DomainEmbedding with W of width 12."""
    encoder = {**dict(model='tiny', config=CLIP, pretrained=None, image_size=32), **kwargs.pop('image_encoder', {})}
    descriptions = dict(provider='hash', classes=DOMAINS, dim=16, projected_dim=12)
    return {**dict(type='DomainEmbedding', descriptions=descriptions, image_encoder=encoder), **kwargs}


def segmentor(domain: bool = True, head: str = 'DominoFPNHead', fuse: str = 'sub', stats: str = 'BN', **kwargs) -> dict:
    """Config of a tiny DomainAwareEncoderDecoder: VPDBackbone, FPN, an FPN head; W only where ``domain``."""
    decode_head = dict(
        type=head,
        in_channels=[16] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=16,
        dropout_ratio=0.0,
        num_classes=len(CLASSES),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    )
    decode_head.update(dict(stats=stats, hidden_channels=8) if head == 'DominoFPNHead' else dict(norm_cfg=dict(type='BN')))
    cfg = dict(
        type='DomainAwareEncoderDecoder',
        data_preprocessor=preprocessor(),
        backbone=vpd_backbone(fuse=fuse if domain else 'none'),
        neck=dict(type='FPN', out_channels=16, num_outs=4),
        decode_head=decode_head,
        domain_embedding=domain_embedding() if domain else None,
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    cfg.update(kwargs)
    return cfg


def preprocessor(**kwargs) -> dict:
    """Config of the data preprocessor that maps images to [-1, 1]."""
    values = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_val=0, seg_pad_val=255)
    return {**values, **kwargs}
