"""Linear probing on Cityscapes: the backbone stays as MoCo-v2 left it, BatchNorm included; only the head trains.

Deviations: as in deeplabv3plus_r50_ft_cityscapes.py. The paper's probe is a logistic regression, which a decode head is not: here
the whole DeepLabv3+ head is trained by SGD, at a rate of ours.
"""

_base_ = './deeplabv3plus_r50_ft_cityscapes.py'
# frozen in the model and not by feature_lr=0 alone: distributed training must know before it wraps the model
model = dict(backbone=dict(frozen_stages=4))
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.0, head_lr=0.1))
custom_hooks = [dict(type='BNModeHook', modes=dict(backbone='eval'))]
