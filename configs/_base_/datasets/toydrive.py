# Drawn street scenes: train in clear weather, test in all five conditions. Nothing is downloaded.
dataset_type = 'ToyDriveDataset'
crop_size = (128, 256)
conditions = ('clear', 'fog', 'night', 'rain', 'snow')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='KeepDomainImage', size=64),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDomainInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='KeepDomainImage', size=64),
    dict(type='LoadAnnotations'),
    dict(type='PackDomainInputs'),
]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='KeepDomainImage', size=64),
    dict(type='TestTimeAug', transforms=[flips, [dict(type='LoadAnnotations')], [dict(type='PackDomainInputs')]]),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type=dataset_type, length=400, seed=0, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, length=100, seed=1, conditions=conditions, pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='DomainIoUMetric', source='clear')
test_evaluator = val_evaluator
