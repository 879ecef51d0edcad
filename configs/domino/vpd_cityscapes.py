"""Domino, Table 2, "VPD", and Table 3, "100/0": fine-tuned Stable Diffusion U-Net, Cityscapes -> ACDC."""

_base_ = [
    '../_base_/models/vpd_fpn.py',
    '../_base_/datasets/cityscapes_to_acdc_512x512.py',
    '../_base_/schedules/adamw_80k.py',
]
