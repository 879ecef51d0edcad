"""DAFT on VOC 2012 aug: eta_theta != eta_w, BatchNorm converted before training, then in training mode.

Deviations: as in deeplabv3plus_r50_ft_voc.py; the rates 0.01 and 0.1 are ours, eta_w far below the 1.0 of the paper's
classification sweeps because the head is random and deep. The head is random, as the paper asks of a head of several layers.
"""

_base_ = './deeplabv3plus_r50_integrated_voc.py'
# The head is fresh: its norms have no source statistics to convert from.
custom_hooks = [dict(type='BNConversionHook', modules=('backbone',))]
