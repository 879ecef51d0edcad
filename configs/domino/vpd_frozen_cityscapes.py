"""Domino, Table 2, "VPD (frozen)": the U-Net stays frozen; text adapter, neck and head learn."""

_base_ = './vpd_cityscapes.py'
model = dict(backbone=dict(frozen=True))
