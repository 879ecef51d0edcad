# Train on GTAV, test on Cityscapes, BDD100K and Mapillary Vistas as Rein does: 1024x512, 1280x720, and 1024x512 on halved images.
gtav = dict(type='GTAVDataset', data_root='{{$GTAV_ROOT:data/gtav}}', drop_unlabelled=True)
cityscapes = dict(type='TaggedCityscapesDataset', data_root='{{$CITYSCAPES_ROOT:data/cityscapes}}')
bdd100k = dict(type='TaggedBDD100KDataset', data_root='{{$BDD100K_ROOT:data/bdd100k}}')
mapillary = dict(type='TaggedMapillaryDataset', data_root='{{$MAPILLARY_ROOT:data/mapillary}}', half=True)
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
scale = dict(type='DomainResize', scale=(1024, 512), domains=dict(bdd100k=(1280, 720)))
test_pipeline = [load, scale, labels, pack]
scales = [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.75, 1.0, 1.25)]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [load, scale, dict(type='TestTimeAug', transforms=[scales, flips, [labels], [pack]])]
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**gtav, pipeline=train_pipeline),
)  # fmt: skip
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DomainConcatDataset', pipeline=test_pipeline, datasets=[
        dict(**cityscapes, data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'), test_mode=True),
        dict(**bdd100k, split='val', test_mode=True),
        dict(**mapillary, split='validation', test_mode=True),
    ]),
)  # fmt: skip
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='DomainIoUMetric')
