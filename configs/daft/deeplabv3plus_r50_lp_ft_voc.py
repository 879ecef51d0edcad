"""LP-FT on VOC 2012 aug as in Table 1 of DAFT: the head of linear probing, eta_theta = eta_w, BatchNorm in test mode.

Train deeplabv3plus_r50_lp_voc.py first; LP_VOC names its checkpoint if it lies elsewhere.
Deviations: as in deeplabv3plus_r50_ft_voc.py; the rate is ours, a tenth of fine-tuning's.
"""

_base_ = './deeplabv3plus_r50_ft_voc.py'
model = dict(
    backbone=dict(init_cfg=None),
    init_cfg=dict(type='Pretrained', checkpoint='{{$LP_VOC:work_dirs/deeplabv3plus_r50_lp_voc/iter_30000.pth}}'),
)
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.001, head_lr=0.001))
# As in the LP-FT authors' code, the whole network is in test mode: dropout is off, too.
custom_hooks = [dict(type='BNModeHook', modes={'': 'eval'}, scope='all')]
