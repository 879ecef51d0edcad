"""DINOv2-L with the light FPN head."""

_base_ = ['./vfm_fpn.py', '../backbones/dinov2_l.py']
model = dict(backbone={{_base_.backbone}}, data_preprocessor={{_base_.data_preprocessor}})
