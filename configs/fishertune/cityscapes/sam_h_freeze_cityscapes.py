"""SAM-H frozen, the head alone trains, Cityscapes to ACDC, BDD100K."""

_base_ = './sam_h_full_cityscapes.py'
model = dict(backbone=dict(frozen=True))
