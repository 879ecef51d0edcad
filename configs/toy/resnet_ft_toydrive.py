"""FT of the tiny ResNet on drawn streets: random head, one rate."""

_base_ = './resnet_toydrive.py'
model = dict(decode_head=dict(init_cfg=dict(_delete_=True, type='Normal', std=0.01, override=dict(name='conv_seg'))))
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.03, head_lr=0.03))
