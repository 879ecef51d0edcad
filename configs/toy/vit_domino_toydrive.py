"""The tiny ViT with a head that is normalised by the domain embedding: Domino without a diffusion model."""

_base_ = ['./vit_toydrive.py', '../_base_/models/tiny_domain_embedding.py']
model = dict(
    decode_head=dict(norm_cfg=dict(_delete_=True, type='DominoNorm', stats='BN')),
    domain_embedding={{_base_.domain_embedding}},
)
