# LabelMeFacade in eight classes, photos at 320x240: train on two walks through Boston (148 photos); test on all other
# recordings of Boston (104) and on other cities (misc, 137). No recording is in both.
labelmefacade = dict(type='LabelMeFacadeDataset', data_root='{{$STREET_DATA:../shared/data}}/labelmefacade')
crop_size = (192, 192)
train_albums = ['05june05_static_street_boston', 'static_boston_street_april']
load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
labels, pack = dict(type='LoadAnnotations'), dict(type='PackDomainInputs')
scale = dict(type='Resize', scale=(320, 240), keep_ratio=True)
train_pipeline = [
    load,
    labels,
    dict(type='RandomResize', scale=(320, 240), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    pack,
]
# The labels are loaded after the resizing and keep their size: predictions are compared at the photo's resolution.
test_pipeline = [load, scale, labels, pack]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [load, dict(type='TestTimeAug', transforms=[[scale], flips, [labels], [pack]])]
train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**labelmefacade, sequences=['boston'], albums=train_albums, domain='boston', pipeline=train_pipeline),
)  # fmt: skip
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='DomainConcatDataset', pipeline=test_pipeline, datasets=[
        dict(**labelmefacade, sequences=['boston'], exclude_albums=train_albums, domain='boston', test_mode=True),
        dict(**labelmefacade, sequences=['misc'], domain='misc', test_mode=True),
    ]),
)  # fmt: skip
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='DomainIoUMetric', source='boston')
