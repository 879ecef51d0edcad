"""DINOv2-L with VQT, 128 queries in each block but the first, from Cityscapes; the adapter learns at the head's rate."""

_base_ = '../../fishertune/cityscapes/dinov2_l_full_cityscapes.py'
model = dict(backbone=dict(adapter=dict(type='VQT', tokens=128)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
