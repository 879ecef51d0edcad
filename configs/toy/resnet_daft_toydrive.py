"""DAFT of the tiny ResNet on drawn streets."""

_base_ = './resnet_toydrive.py'
custom_hooks = [dict(type='BNConversionHook', modules=('backbone',))]
