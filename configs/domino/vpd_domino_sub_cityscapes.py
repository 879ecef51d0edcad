"""Domino-Sub, Table 2: the domain embedding W is subtracted from the class tokens ("sub") and conditions every norm of the
decode head. Paper recipe: trained CLIP image tower, temperature 1, batch 2 on one GPU (batch and crop are our guess).
"""

_base_ = [
    '../_base_/models/domino_fpn.py',
    '../_base_/datasets/cityscapes_to_acdc_512x512.py',
    '../_base_/schedules/adamw_80k.py',
]
