# Train on GTAV, test on Cityscapes, BDD100K and Mapillary Vistas as Rein does: 1024x512, 1280x720, and 1024x512 on halved images.
_base_ = '../pipelines/vfm_512x512.py'
gtav = dict(type='GTAVDataset', data_root='{{$GTAV_ROOT:data/gtav}}', drop_unlabelled=True)
cityscapes = dict(type='TaggedCityscapesDataset', data_root='{{$CITYSCAPES_ROOT:data/cityscapes}}')
bdd100k = dict(type='TaggedBDD100KDataset', data_root='{{$BDD100K_ROOT:data/bdd100k}}')
mapillary = dict(type='TaggedMapillaryDataset', data_root='{{$MAPILLARY_ROOT:data/mapillary}}', half=True)
scale = dict(type='DomainResize', scale=(1024, 512), domains=dict(bdd100k=(1280, 720)))
test_pipeline = [_base_.load, scale, _base_.labels, _base_.pack]
tta_pipeline = [
    _base_.load,
    scale,
    dict(type='TestTimeAug', transforms=[_base_.scales, _base_.flips, [_base_.labels], [_base_.pack]]),
]
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**gtav, pipeline=_base_.train_pipeline),
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
