"""VPD as its published code runs it: unscaled latents, class maps without gradient, its learning-rate tie-break."""

_base_ = './vpd_cityscapes.py'
model = dict(backbone=dict(preset='vpd_legacy'))
optim_wrapper = dict(paramwise_cfg=dict(legacy_norm_lr=True))
