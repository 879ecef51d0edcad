"""Fine-tuning on Cityscapes after BN conversion (DAFT, Table 5): random head, eta_theta = eta_w, BatchNorm in training mode.

Deviations: as in deeplabv3plus_r50_ft_cityscapes.py.
"""

_base_ = './deeplabv3plus_r50_ft_cityscapes.py'
# The head is fresh: its norms have no source statistics to convert from.
custom_hooks = [dict(type='BNConversionHook', modules=('backbone',))]
