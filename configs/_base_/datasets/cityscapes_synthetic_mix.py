# Cityscapes to ACDC with half of the training samples synthetic: <root>/<domain>/<city>/<city>_<seq>_<frame>.png shares the
# label of the real image with that path. Which samples are synthetic follows randomness.seed.
# Other ratios: train_dataloader = dict(dataset=dict(ratio=0.25)).
_base_ = './cityscapes_to_acdc_512x512.py'
synthetic_root = '{{$SYNTHETIC_ROOT:data/cityscapes_synthetic}}'
train_dataloader = dict(
    sampler=dict(type='EpochIndexSampler', shuffle=True),
    dataset=dict(
        _delete_=True,
        type='RealSyntheticMix',
        real=_base_.train_dataloader.dataset,
        synthetic_roots={name: f'{synthetic_root}/{name}' for name in ('fog', 'night', 'rain', 'snow')},
        ratio=0.5,
        img_suffix='.png',
    ),
)
