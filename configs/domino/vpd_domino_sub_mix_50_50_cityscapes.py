"""Not in the paper: Domino-Sub with half of the samples synthetic."""

_base_ = [
    '../_base_/models/domino_fpn.py',
    '../_base_/datasets/cityscapes_synthetic_mix.py',
    '../_base_/schedules/adamw_80k.py',
]
