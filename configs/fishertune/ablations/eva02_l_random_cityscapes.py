"""Table 4, EVA02-L: the weights are chosen by 'random'; else as FisherTune, whose own row (DRF) is the base of this file."""

_base_ = '../cityscapes/eva02_l_fishertune_cityscapes.py'
custom_hooks = [dict(_base_.custom_hooks[0], criterion='random')]
