"""Not in the paper: W is one more context token, the only mode that can re-weight attention within a layer."""

_base_ = './vpd_domino_sub_cityscapes.py'
model = dict(backbone=dict(fuse='token'))
