"""FT + conversion of the tiny ResNet on drawn streets: random head, one rate."""

_base_ = './resnet_ft_toydrive.py'
custom_hooks = [dict(type='BNConversionHook', modules=('backbone',))]
