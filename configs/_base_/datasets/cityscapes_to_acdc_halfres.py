# Cityscapes to ACDC at half the resolution (slide: 3 windows per Cityscapes image, 6 per ACDC image).
_base_ = './cityscapes_to_acdc_512x512.py'
half = dict(type='Resize', scale_factor=0.5, keep_ratio=True)
train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(type='RandomResize', scale=(1024, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    *_base_.train_pipeline[4:],
]
test_pipeline = [_base_.load, _base_.domain_image, half, _base_.labels, _base_.pack]
scales = [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.375, 0.5, 0.625)]
tta_pipeline = [
    _base_.load,
    _base_.domain_image,
    dict(type='TestTimeAug', transforms=[scales, _base_.flips, [_base_.labels], [_base_.pack]]),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
