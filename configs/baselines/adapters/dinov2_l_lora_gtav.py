"""DINOv2-L with LoRA of rank 8, from GTAV; the adapter learns at half the head's rate, as SoMA gives LoRA."""

_base_ = '../../fishertune/gtav/dinov2_l_full_gtav.py'
model = dict(backbone=dict(adapter=dict(type='LoRA', rank=8)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
