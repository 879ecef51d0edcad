"""LP-FT on VOC 2012 aug after BN conversion (DAFT, Table 5): the head of linear probing, eta_theta = eta_w, BatchNorm converted.

Train deeplabv3plus_r50_lp_voc.py first; LP_VOC names its checkpoint if it lies elsewhere.
Deviations: as in deeplabv3plus_r50_lp_ft_voc.py. The paper does not say the mode of BatchNorm here: it trains in training
mode, because in test mode the conversion changes no output.
"""

_base_ = './deeplabv3plus_r50_ft_voc.py'
model = dict(
    backbone=dict(init_cfg=None),
    init_cfg=dict(type='Pretrained', checkpoint='{{$LP_VOC:work_dirs/deeplabv3plus_r50_lp_voc/iter_30000.pth}}'),
)
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.001, head_lr=0.001))
# The head knows the target from probing.
custom_hooks = [dict(type='BNConversionHook', modules=('backbone',))]
