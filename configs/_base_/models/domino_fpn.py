"""Domino on VPD: W from a trained CLIP image tower, fused into the class tokens and into every norm of the head."""

_base_ = './vpd_fpn.py'
model = dict(
    backbone=dict(fuse='sub'),
    decode_head=dict(type='DominoFPNHead', norm_cfg=None, stats='SyncBN'),
    domain_embedding=dict(
        type='DomainEmbedding',
        descriptions=dict(path='data/embeddings/domains_weather8.safetensors'),
        image_encoder=dict(provider='transformers', model='openai/clip-vit-large-patch14', trainable=True),
        temperature=1.0,
        space='projected',
    ),
)
