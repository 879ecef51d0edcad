# Cityscapes to ACDC at half the resolution (slide: 3 windows per Cityscapes image, 6 per ACDC image).
cityscapes = dict(type='TaggedCityscapesDataset', data_root='{{$CITYSCAPES_ROOT:data/cityscapes}}')
acdc = dict(type='ACDCDataset', data_root='{{$ACDC_ROOT:data/acdc}}')
crop_size = (512, 512)
load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
domain_image = dict(type='KeepDomainImage')
labels, pack = dict(type='LoadAnnotations'), dict(type='PackDomainInputs')
train_pipeline = [
    load,
    labels,
    domain_image,
    dict(type='RandomResize', scale=(1024, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    pack,
]
half = dict(type='Resize', scale_factor=0.5, keep_ratio=True)
test_pipeline = [load, domain_image, half, labels, pack]
scales = [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.375, 0.5, 0.625)]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [load, domain_image, dict(type='TestTimeAug', transforms=[scales, flips, [labels], [pack]])]
train_prefix = dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')
val_prefix = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
train_dataloader = dict(
    batch_size=2, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**cityscapes, data_prefix=train_prefix, pipeline=train_pipeline),
)  # fmt: skip
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DomainConcatDataset', pipeline=test_pipeline, datasets=[
        dict(**cityscapes, data_prefix=val_prefix, test_mode=True),
        dict(**acdc, split='val', test_mode=True),
    ]),
)  # fmt: skip
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='DomainIoUMetric', source='cityscapes')
