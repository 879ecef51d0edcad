"""DINOv2-L with AdaptFormer of 64 hidden channels, from Cityscapes; the adapter learns at the head's rate."""

_base_ = '../../fishertune/cityscapes/dinov2_l_full_cityscapes.py'
model = dict(backbone=dict(adapter=dict(type='AdaptFormer', bottleneck=64, scale=0.1)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
