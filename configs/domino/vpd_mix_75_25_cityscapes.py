"""Domino, Table 3, "75/25": VPD on Cityscapes, a quarter of the samples synthetic."""

_base_ = './vpd_mix_50_50_cityscapes.py'
train_dataloader = dict(dataset=dict(ratio=0.25))
