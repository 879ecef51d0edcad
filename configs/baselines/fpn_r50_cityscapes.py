"""Domino, Table 1, ResNet-50: semantic FPN on supervised ImageNet weights, Cityscapes -> ACDC."""

_base_ = [
    '../_base_/models/fpn_r50.py',
    '../_base_/datasets/cityscapes_to_acdc_512x512.py',
    '../_base_/schedules/adamw_80k.py',
]
