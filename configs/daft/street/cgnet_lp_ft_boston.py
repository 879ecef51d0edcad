"""LP-FT as in Table 1 of DAFT: the head of linear probing, eta_theta = eta_w, BatchNorm in test mode, no conversion.

Train cgnet_lp_boston.py first; the checkpoint may lie elsewhere: --cfg-options model.init_cfg.checkpoint=PATH.
"""

_base_ = [
    '../../_base_/models/cgnet_camvid11.py',
    '../../_base_/datasets/labelmefacade_boston.py',
    '../../_base_/schedules/sgd_poly_120.py',
]
model = dict(init_cfg=dict(type='Pretrained', checkpoint='{{$CGNET_LP_BOSTON:work_dirs/cgnet_lp_boston/iter_120.pth}}'))
# the rates that the sweep of configs/suites/street_daft.py chose
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.0001, head_lr=0.0001))
# As in the LP-FT authors' code, the whole network is in test mode: dropout is off, too.
custom_hooks = [dict(type='BNModeHook', modes=dict(backbone='eval', decode_head='eval'), scope='all')]
