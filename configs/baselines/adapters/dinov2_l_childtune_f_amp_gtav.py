"""ChildTuning-F in bfloat16, for tools that do not choose the wrapper; `tools/train.py --amp` needs no such config."""

_base_ = './dinov2_l_childtune_f_gtav.py'
optim_wrapper = dict(type='ChildTuneAmpOptimWrapper', dtype='bfloat16', loss_scale=1.0)
