"""FisherTune of the tiny ViT on drawn streets; `custom_hooks.0.criterion=F` gives another row of the toy suite."""

_base_ = './vit_toydrive.py'
optim_wrapper = dict(type='FisherTuneOptimWrapper', constructor='FisherTuneOptimWrapperConstructor')
estimation = dict(images=64, bank_images=64, batch_size=4)
custom_hooks = [dict(type='FisherTuneHook', warmup_iters=30, interval=10, delta_min=0.01, delta_max=0.05, estimation=estimation)]
