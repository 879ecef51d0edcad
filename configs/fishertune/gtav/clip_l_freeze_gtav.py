"""CLIP-L frozen, the head alone trains, GTAV to Cityscapes, BDD100K, Mapillary."""

_base_ = './clip_l_full_gtav.py'
model = dict(backbone=dict(frozen=True))
