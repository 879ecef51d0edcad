"""FisherTune in 40k iterations: 4k of the head alone, scores on 1,000 images, then 1 % to 5 % of the backbone's weights too."""

_base_ = './adamw_40k_vfm.py'
optim_wrapper = dict(type='FisherTuneOptimWrapper', constructor='FisherTuneOptimWrapperConstructor')
# four crops share a forward pass where that is exact, and a draw of the weights
estimation = dict(images=1000, bank_images=256, batch_size=4)
growth = dict(delta_min=0.01, delta_max=0.05, interval=500)
custom_hooks = [dict(type='FisherTuneHook', warmup_iters=4000, criterion='rank', **growth, estimation=estimation)]
