"""ResNet-50 + FPN with a DominoFPNHead: the domain embedding without any diffusion model, frozen CLIP tower."""

_base_ = './fpn_r50_cityscapes.py'
model = dict(
    decode_head=dict(type='DominoFPNHead', norm_cfg=None, stats='SyncBN'),
    domain_embedding=dict(
        type='DomainEmbedding',
        descriptions=dict(path='data/embeddings/domains_weather8.safetensors'),
        image_encoder=dict(model='openai/clip-vit-large-patch14', trainable=False),
        temperature=0.01,
    ),
)
