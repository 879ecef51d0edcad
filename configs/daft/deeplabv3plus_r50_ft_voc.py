"""Fine-tuning on VOC 2012 aug as in Table 1 of DAFT: random head, eta_theta = eta_w, BatchNorm in training mode, no conversion.

Deviations: those of the base files; no learning rate of the segmentation runs is published, 0.01 for both is ours
(VainF's code: 0.01 for the head on VOC, a tenth for the backbone).
"""

_base_ = [
    '../_base_/models/deeplabv3plus_r50_os16.py',
    '../_base_/datasets/voc12aug_513.py',
    '../_base_/schedules/sgd_poly_30k.py',
]
model = dict(data_preprocessor=dict(size=(513, 513)), decode_head=dict(num_classes=21))
optim_wrapper = dict(paramwise_cfg=dict(feature_lr=0.01, head_lr=0.01))
