"""The small ViT on CamVid by day with FisherTune: the head alone for 30 iterations, then 1 % to 5 % of the weights too.
`--cfg-options custom_hooks.0.criterion=F` gives another row of the table.
"""

_base_ = './vit_full_camvid.py'
optim_wrapper = dict(type='FisherTuneOptimWrapper', constructor='FisherTuneOptimWrapperConstructor')
estimation = dict(images=120, bank_images=120, batch_size=4)
custom_hooks = [dict(type='FisherTuneHook', warmup_iters=30, interval=10, delta_min=0.01, delta_max=0.05, estimation=estimation)]
