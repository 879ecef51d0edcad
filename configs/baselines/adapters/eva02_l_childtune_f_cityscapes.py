"""EVA02-L with ChildTuning-F, from Cityscapes: a random 30 % of the backbone's gradients in each step."""

_base_ = '../../fishertune/cityscapes/eva02_l_full_cityscapes.py'
optim_wrapper = dict(type='ChildTuneOptimWrapper', constructor='ChildTuneOptimWrapperConstructor', keep=0.3)
