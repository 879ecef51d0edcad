"""EVA02-L with VPT-deep, 150 prompts in each block, from GTAV; the adapter learns at the head's rate."""

_base_ = '../../fishertune/gtav/eva02_l_full_gtav.py'
model = dict(backbone=dict(adapter=dict(type='VPT', tokens=150)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
