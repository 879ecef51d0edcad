"""FisherTune of DINOv2-L in bfloat16, for tools that do not choose the wrapper; `tools/train.py --amp` needs no such config."""

_base_ = './dinov2_l_fishertune_gtav.py'
optim_wrapper = dict(type='FisherTuneAmpOptimWrapper', dtype='bfloat16', loss_scale=1.0)
