"""The tiny ResNet with the whole network in test mode: LP (feature_lr 0) and LP-FT (from LP's checkpoint) of the toy suite."""

_base_ = './resnet_toydrive.py'
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.0, head_lr=0.3))
custom_hooks = [dict(type='BNModeHook', modes=dict(backbone='eval', decode_head='eval'), scope='all')]
