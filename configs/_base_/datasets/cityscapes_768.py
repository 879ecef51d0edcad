# Cityscapes, crops of 768 px without random scale, 4 images on each of 4 GPUs; whole images of 1024x2048 px are tested.
# Deviation: the paper's colour jitter (brightness, contrast, saturation 0.5, hue 0) is not in mmseg. PhotoMetricDistortion
# comes nearest: each operation happens half of the time, brightness is added (up to 48 of 255; factors 0.5 to 1.5 in the
# paper), and hue moves by at most 2 degrees, because mmseg cannot draw from hue_delta=0.
cityscapes = dict(type='TaggedCityscapesDataset', data_root='{{$CITYSCAPES_ROOT:data/cityscapes}}')
crop_size = (768, 768)
load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
labels, pack = dict(type='LoadAnnotations'), dict(type='PackDomainInputs')
jitter = dict(
    type='PhotoMetricDistortion', brightness_delta=48, contrast_range=(0.5, 1.5), saturation_range=(0.5, 1.5), hue_delta=1
)
train_pipeline = [load, labels, dict(type='RandomCrop', crop_size=crop_size), jitter, dict(type='RandomFlip', prob=0.5), pack]
test_pipeline = [load, labels, pack]
scales = [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.75, 1.0, 1.25)]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [load, dict(type='TestTimeAug', transforms=[scales, flips, [labels], [pack]])]
train_prefix = dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')
val_prefix = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**cityscapes, data_prefix=train_prefix, pipeline=train_pipeline),
)  # fmt: skip
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**cityscapes, data_prefix=val_prefix, pipeline=test_pipeline),
)  # fmt: skip
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='DomainIoUMetric')
