"""DINOv2-L with ChildTuning-D, from GTAV: the 5 % of the weights with the largest squared batch gradients.

They are chosen once, before training, when the head is random; `--cfg-options custom_hooks.0.warmup_iters=4000` trains it first,
as FisherTune does. The candidates are FisherTune's, so that the two differ in the choice alone.
"""

_base_ = '../../fishertune/gtav/dinov2_l_fishertune_gtav.py'
batches = dict(estimator='batch_gradient', images=1000, batch_size=4)
fixed = dict(schedule='constant', delta_min=0.05, delta_max=0.05, warmup_iters=0)
custom_hooks = [dict(type='FisherTuneHook', criterion='F', estimation=batches, **fixed)]
