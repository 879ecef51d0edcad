"""Domino, Table 3, "0/100": VPD on synthetic images of Cityscapes layouts only."""

_base_ = './vpd_mix_50_50_cityscapes.py'
train_dataloader = dict(dataset=dict(ratio=1.0))
