"""Not in the paper: Domino-Sub with half of the samples synthetic."""

_base_ = './vpd_mix_50_50_cityscapes.py'
model = dict(
    backbone=dict(fuse='sub'),
    decode_head=dict(type='DominoFPNHead', norm_cfg=None, stats='SyncBN'),
    domain_embedding=dict(
        type='DomainEmbedding',
        descriptions=dict(path='data/embeddings/domains_weather8.safetensors'),
        image_encoder=dict(model='openai/clip-vit-large-patch14', trainable=True),
    ),
)
