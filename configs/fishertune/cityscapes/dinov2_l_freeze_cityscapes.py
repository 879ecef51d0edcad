"""DINOv2-L frozen, the head alone trains, Cityscapes to ACDC, BDD100K."""

_base_ = './dinov2_l_full_cityscapes.py'
model = dict(backbone=dict(frozen=True))
