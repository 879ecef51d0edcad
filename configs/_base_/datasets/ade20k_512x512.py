# ADE20K (ADEChallengeData2016) with 150 classes as VPD trains and tests it: crops of 512 px, sliding windows at 2048x512.
ade20k = dict(type='ADE20KDataset', data_root='{{$ADE20K_ROOT:data/ade/ADEChallengeData2016}}')
check = dict(type='CheckLabels', num_classes=150)
crop_size = (512, 512)
load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
pack = dict(type='PackSegInputs')
labels = dict(type='LoadAnnotations', reduce_zero_label=True)
train_pipeline = [
    load,
    labels,
    check,
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    pack,
]
test_pipeline = [load, dict(type='Resize', scale=(2048, 512), keep_ratio=True), labels, check, pack]
factors = (1.0, 1.125, 1.25, 1.375, 1.5)
scales = [dict(type='Resize', scale=(int(2048 * f), int(512 * f)), keep_ratio=True) for f in factors]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [load, dict(type='TestTimeAug', transforms=[scales, flips, [labels], [check], [pack]])]
training = dict(img_path='images/training', seg_map_path='annotations/training')
validation = dict(img_path='images/validation', seg_map_path='annotations/validation')
train_dataloader = dict(
    batch_size=2, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**ade20k, data_prefix=training, pipeline=train_pipeline),
)  # fmt: skip
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**ade20k, data_prefix=validation, pipeline=test_pipeline),
)  # fmt: skip
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
