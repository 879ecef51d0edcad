# Six street classes on real images: train on CamVid by day; test on CamVid by day, at dusk, and on Boston (LabelMeFacade).
# The day frames of the test follow the training frames closely, so the source row is optimistic.
data_root = '{{$STREET_DATA:../shared/data}}'
crop_size = (192, 192)
day = ['day_0016E5', 'day_0006R0']
load = [dict(type='LoadImageFromFile', color_type='color_ignore_orientation'), dict(type='KeepDomainImage', size=64)]
labels, pack = dict(type='LoadAnnotations'), dict(type='PackDomainInputs')
scale = dict(type='Resize', scale=(320, 240), keep_ratio=True)
train_pipeline = [
    *load,
    labels,
    dict(type='RandomResize', scale=(320, 240), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    pack,
]
test_pipeline = [*load, scale, labels, pack]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [*load, dict(type='TestTimeAug', transforms=[[scale], flips, [labels], [pack]])]
camvid = dict(type='StreetSixDataset', source='camvid', data_root=data_root + '/camvid')
boston = dict(type='StreetSixDataset', source='labelmefacade', data_root=data_root + '/labelmefacade')
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**camvid, ann_file='splits/train.txt', sequences=day, domain='day', pipeline=train_pipeline),
)  # fmt: skip
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DomainConcatDataset', pipeline=test_pipeline, datasets=[
        dict(**camvid, ann_file='splits/val.txt', domain='day', test_mode=True),
        dict(**camvid, sequences=['dusk_0001TP'], domain='dusk', test_mode=True),
        dict(**boston, sequences=['boston'], domain='boston', test_mode=True),
    ]),
)  # fmt: skip
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='DomainIoUMetric', source='day')
