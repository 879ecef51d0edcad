"""Integrated LP-FT without conversion: zero head, eta_theta != eta_w, BatchNorm in training mode.

The ablation of DAFT's Table 5 that keeps everything of DAFT but the conversion.
"""

_base_ = [
    '../../_base_/models/cgnet_camvid11.py',
    '../../_base_/datasets/labelmefacade_boston.py',
    '../../_base_/schedules/sgd_poly_120.py',
]
# the rates that the sweep of configs/suites/street_daft.py chose
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.01, head_lr=0.1))
