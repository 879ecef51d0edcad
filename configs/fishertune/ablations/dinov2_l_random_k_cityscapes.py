"""Table 4, DINOv2-L: the weights are chosen by 'random_k'; else as FisherTune, whose own row (DRF) is the base of this file."""

_base_ = '../cityscapes/dinov2_l_fishertune_cityscapes.py'
custom_hooks = [dict(_base_.custom_hooks[0], criterion='random_k')]
