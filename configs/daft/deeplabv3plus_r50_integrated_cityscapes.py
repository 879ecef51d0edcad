"""Integrated LP-FT on Cityscapes without conversion (DAFT, Table 5): eta_theta != eta_w, BatchNorm in training mode.

Deviations: as in deeplabv3plus_r50_ft_cityscapes.py; the rates 0.01 and 0.1 are ours. The head is random, as the paper asks
of a head of several layers.
"""

_base_ = './deeplabv3plus_r50_ft_cityscapes.py'
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.01, head_lr=0.1))
