# Train on Cityscapes, test on it at 1024x512, on ACDC's conditions (val) at 960x540 and on BDD100K at 1280x720, as Rein does.
_base_ = '../pipelines/vfm_512x512.py'
cityscapes = dict(type='TaggedCityscapesDataset', data_root='{{$CITYSCAPES_ROOT:data/cityscapes}}')
acdc = dict(type='ACDCDataset', data_root='{{$ACDC_ROOT:data/acdc}}')
bdd100k = dict(type='TaggedBDD100KDataset', data_root='{{$BDD100K_ROOT:data/bdd100k}}')
half = (960, 540)
target_scales = dict(fog=half, night=half, rain=half, snow=half, bdd100k=(1280, 720))
scale = dict(type='DomainResize', scale=(1024, 512), domains=target_scales)
test_pipeline = [_base_.load, scale, _base_.labels, _base_.pack]
tta_pipeline = [
    _base_.load,
    scale,
    dict(type='TestTimeAug', transforms=[_base_.scales, _base_.flips, [_base_.labels], [_base_.pack]]),
]
train_prefix, val_prefix = [dict(img_path=f'leftImg8bit/{s}', seg_map_path=f'gtFine/{s}') for s in ('train', 'val')]
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**cityscapes, data_prefix=train_prefix, pipeline=_base_.train_pipeline),
)  # fmt: skip
sets = [dict(**cityscapes, data_prefix=val_prefix), dict(**acdc, split='val'), dict(**bdd100k, split='val')]
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DomainConcatDataset', pipeline=test_pipeline, datasets=[dict(s, test_mode=True) for s in sets]),
)  # fmt: skip
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='DomainIoUMetric', source='cityscapes')
