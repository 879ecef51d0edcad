"""EVA02-L with ChildTuning-F, from GTAV: a random 30 % of the backbone's gradients in each step."""

_base_ = '../../fishertune/gtav/eva02_l_full_gtav.py'
optim_wrapper = dict(type='ChildTuneOptimWrapper', constructor='ChildTuneOptimWrapperConstructor', keep=0.3)
