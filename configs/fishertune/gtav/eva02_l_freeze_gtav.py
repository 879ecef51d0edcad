"""EVA02-L frozen, the head alone trains, GTAV to Cityscapes, BDD100K, Mapillary."""

_base_ = './eva02_l_full_gtav.py'
model = dict(backbone=dict(frozen=True))
