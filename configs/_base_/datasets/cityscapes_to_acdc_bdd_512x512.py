# Train on Cityscapes, test on it at 1024x512, on ACDC's conditions (val) at 960x540 and on BDD100K at 1280x720, as Rein does.
cityscapes = dict(type='TaggedCityscapesDataset', data_root='{{$CITYSCAPES_ROOT:data/cityscapes}}')
acdc = dict(type='ACDCDataset', data_root='{{$ACDC_ROOT:data/acdc}}')
bdd100k = dict(type='TaggedBDD100KDataset', data_root='{{$BDD100K_ROOT:data/bdd100k}}')
crop_size = (512, 512)
load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
labels, pack = dict(type='LoadAnnotations'), dict(type='PackDomainInputs')
short_edges = dict(scales=[512 * part // 10 for part in range(5, 21)], resize_type='ResizeShortestEdge', max_size=2048)
train_pipeline = [
    load,
    labels,
    dict(type='RandomChoiceResize', **short_edges),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    pack,
]
half = (960, 540)
target_scales = dict(fog=half, night=half, rain=half, snow=half, bdd100k=(1280, 720))
scale = dict(type='DomainResize', scale=(1024, 512), domains=target_scales)
test_pipeline = [load, scale, labels, pack]
scales = [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.75, 1.0, 1.25)]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [load, scale, dict(type='TestTimeAug', transforms=[scales, flips, [labels], [pack]])]
train_prefix, val_prefix = [dict(img_path=f'leftImg8bit/{s}', seg_map_path=f'gtFine/{s}') for s in ('train', 'val')]
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**cityscapes, data_prefix=train_prefix, pipeline=train_pipeline),
)  # fmt: skip
sets = [dict(**cityscapes, data_prefix=val_prefix), dict(**acdc, split='val'), dict(**bdd100k, split='val')]
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DomainConcatDataset', pipeline=test_pipeline, datasets=[dict(s, test_mode=True) for s in sets]),
)  # fmt: skip
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='DomainIoUMetric', source='cityscapes')
