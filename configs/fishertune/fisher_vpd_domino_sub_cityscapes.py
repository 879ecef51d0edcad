"""FisherTune on Domino: of the Stable Diffusion U-Net, its attention and feed-forward weights compete for 5 %; head, text
adapter and CLIP tower train from the first iteration, as in Domino.

Our combination, in no paper. The shift is put before the first transformer of the U-Net and behind the second (level 0): the
walk of levels 1 and 2 runs their parts one by one, so that nothing can be put between them. CLIP's norms and biases decay,
unlike under VPD's constructor.
"""

_base_ = '../domino/vpd_domino_sub_cityscapes.py'
optim_wrapper = dict(
    _delete_=True,
    type='FisherTuneOptimWrapper',
    constructor='FisherTuneOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=8e-5, weight_decay=1e-3),
    paramwise_cfg=dict(
        candidates=dict(module='backbone.unet'),
        custom_keys={'backbone.unet': dict(lr_mult=0.1), 'domain_embedding.image_encoder': dict(lr_mult=0.1)},
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
    ),
)
estimation = dict(images=1000, bank_images=256, shift=dict(positions=['embedding', 1]))
custom_hooks = [dict(type='FisherTuneHook', warmup_iters=8000, interval=1000, estimation=estimation)]
