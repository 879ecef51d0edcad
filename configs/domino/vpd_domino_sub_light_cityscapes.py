"""Domino-Sub for 24 GB: frozen CLIP tower at temperature 0.01, gradient checkpointing, no frozen weights in checkpoints."""

_base_ = './vpd_domino_sub_cityscapes.py'
model = dict(
    backbone=dict(gradient_checkpointing=True, save_frozen=False),
    domain_embedding=dict(temperature=0.01, image_encoder=dict(trainable=False, save_frozen=False)),
)
