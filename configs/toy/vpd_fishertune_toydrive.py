"""FisherTune of the tiny U-Net on drawn streets, with Domino-Sub."""

_base_ = './vpd_domino_toydrive.py'
optim_wrapper = dict(
    _delete_=True, type='FisherTuneOptimWrapper', constructor='FisherTuneOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-3), clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        candidates=dict(module='backbone.unet'), custom_keys={'domain_embedding.image_encoder': dict(lr_mult=0.1)},
    ),
)  # fmt: skip
estimation = dict(images=64, bank_images=64, batch_size=4, shift=dict(positions=['embedding']))
custom_hooks = [dict(type='FisherTuneHook', warmup_iters=30, interval=10, delta_min=0.01, delta_max=0.05, estimation=estimation)]
