"""Domino-Add, Table 2: the domain embedding W is added to the class tokens."""

_base_ = './vpd_domino_sub_cityscapes.py'
model = dict(backbone=dict(fuse='add'))
