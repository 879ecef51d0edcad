# CamVid with its 11 classes at 480x360: train on both day sequences; test by day (close to the training frames) and at dusk.
camvid = dict(type='CamVidDataset', data_root='{{$STREET_DATA:../shared/data}}/camvid')
crop_size = (320, 320)
load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
domain_image = dict(type='KeepDomainImage')
labels, pack = dict(type='LoadAnnotations'), dict(type='PackDomainInputs')
train_pipeline = [
    load,
    labels,
    domain_image,
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    pack,
]
test_pipeline = [load, domain_image, labels, pack]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [load, domain_image, dict(type='TestTimeAug', transforms=[flips, [labels], [pack]])]
days = ['day_0016E5', 'day_0006R0']
train_dataloader = dict(
    batch_size=4, num_workers=2, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**camvid, ann_file='splits/train.txt', sequences=days, domain='day', pipeline=train_pipeline),
)  # fmt: skip
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DomainConcatDataset', pipeline=test_pipeline, datasets=[
        dict(**camvid, ann_file='splits/val.txt', domain='day', test_mode=True),
        dict(**camvid, sequences=['dusk_0001TP'], domain='dusk', test_mode=True),
    ]),
)  # fmt: skip
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='DomainIoUMetric', source='day')
