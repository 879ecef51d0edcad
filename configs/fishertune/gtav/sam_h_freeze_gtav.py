"""SAM-H frozen, the head alone trains, GTAV to Cityscapes, BDD100K, Mapillary."""

_base_ = './sam_h_full_gtav.py'
model = dict(backbone=dict(frozen=True))
