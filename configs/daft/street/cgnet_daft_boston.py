"""DAFT as in its Table 1: zero head, eta_theta != eta_w, BatchNorm converted before training, then in training mode.

Deviation: eta_w is far below the paper's 1.0, because the converted features keep their pre-trained scale.
"""

_base_ = [
    '../../_base_/models/cgnet_camvid11.py',
    '../../_base_/datasets/labelmefacade_boston.py',
    '../../_base_/schedules/sgd_poly_120.py',
]
# the rates that the sweep of configs/suites/street_daft.py chose
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.003, head_lr=0.1))
custom_hooks = [dict(type='BNConversionHook', modules=('backbone',))]
