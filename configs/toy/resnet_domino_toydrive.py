"""The tiny ResNet with a head that is normalised by the domain embedding: Domino without a diffusion model, one rate."""

_base_ = ['./resnet_ft_toydrive.py', '../_base_/models/tiny_domain_embedding.py']
model = dict(
    type='DomainAwareEncoderDecoder',
    decode_head=dict(num_convs=1, norm_cfg=dict(_delete_=True, type='DominoNorm', stats='BN')),
    domain_embedding={{_base_.domain_embedding}},
)
