"""DAFT of the tiny ResNet on drawn streets; with a random head and one rate it is FT + conversion."""

_base_ = './resnet_toydrive.py'
custom_hooks = [dict(type='BNConversionHook', modules=('backbone',))]
