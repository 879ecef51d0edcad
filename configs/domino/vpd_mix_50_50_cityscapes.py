"""Domino, Table 3, "50/50": VPD on Cityscapes, half of the samples synthetic."""

_base_ = [
    '../_base_/models/vpd_fpn.py',
    '../_base_/datasets/cityscapes_synthetic_mix.py',
    '../_base_/schedules/adamw_80k.py',
]
