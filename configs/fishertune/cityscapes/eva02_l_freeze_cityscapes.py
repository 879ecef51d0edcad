"""EVA02-L frozen, the head alone trains, Cityscapes to ACDC, BDD100K."""

_base_ = './eva02_l_full_cityscapes.py'
model = dict(backbone=dict(frozen=True))
