"""ChildTuning-F of the tiny ViT on drawn streets: a random 30 % of the backbone's gradients in each step."""

_base_ = './vit_toydrive.py'
optim_wrapper = dict(type='ChildTuneOptimWrapper', constructor='ChildTuneOptimWrapperConstructor', keep=0.3)
