"""Domino-Sub at half resolution (1024x512), the other reading of the unpublished recipe; three windows per image."""

_base_ = [
    '../_base_/models/domino_fpn.py',
    '../_base_/datasets/cityscapes_to_acdc_halfres.py',
    '../_base_/schedules/adamw_80k.py',
]
