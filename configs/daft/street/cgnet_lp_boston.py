"""Linear probing: CGNet's CamVid features stay as they are, BatchNorm included; only the linear head learns Boston.

Deviation: the paper fits a logistic regression on stored features; a dense head is trained by SGD here, from zero, on
the augmented crops that the other methods see.
"""

_base_ = [
    '../../_base_/models/cgnet_camvid11.py',
    '../../_base_/datasets/labelmefacade_boston.py',
    '../../_base_/schedules/sgd_poly_120.py',
]
# the rates that the sweep of configs/suites/street_daft.py chose
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.0, head_lr=10.0))
custom_hooks = [dict(type='BNModeHook', modes=dict(backbone='eval'))]
