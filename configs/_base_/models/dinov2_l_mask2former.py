"""DINOv2-L with Mask2Former: the network of Rein and FisherTune."""

_base_ = ['./vfm_mask2former.py', '../backbones/dinov2_l.py']
model = dict(backbone={{_base_.backbone}}, data_preprocessor={{_base_.data_preprocessor}})
