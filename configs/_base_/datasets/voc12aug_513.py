# VOC 2012 aug (10,582 images; mmseg's tools/dataset_converters/voc_aug.py makes SegmentationClassAug and aug.txt), crops of
# 513 px at 0.5 to 2 times the photo's own size, 4 images on each of 4 GPUs. Deviations: the scale is drawn in steps of 0.05;
# small photos are padded with the mean colour and not scored there. Whole photos are tested, shorter side 512, at the
# resolution of their labels (mmseg's protocol): centre crops of 513 px (VainF, probably the paper) give other numbers.
voc = dict(type='PascalVOCDataset', data_root='{{$VOC_ROOT:data/VOCdevkit/VOC2012}}')
check = dict(type='CheckLabels', num_classes=21)
crop_size = (513, 513)
load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
labels, pack = dict(type='LoadAnnotations'), dict(type='PackSegInputs')
train_scales = [[dict(type='Resize', scale_factor=step / 20, keep_ratio=True)] for step in range(10, 41)]
train_pipeline = [
    load,
    labels,
    check,
    dict(type='RandomChoice', transforms=train_scales),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    pack,
]
test_pipeline = [load, dict(type='Resize', scale=(2048, 512), keep_ratio=True), labels, check, pack]
factors = (0.75, 1.0, 1.25)
scales = [dict(type='Resize', scale=(int(2048 * f), int(512 * f)), keep_ratio=True) for f in factors]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [load, dict(type='TestTimeAug', transforms=[scales, flips, [labels], [check], [pack]])]
original = dict(img_path='JPEGImages', seg_map_path='SegmentationClass')
augmented = dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug')
lists = 'ImageSets/Segmentation'
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='ConcatDataset', datasets=[
        dict(**voc, data_prefix=original, ann_file=f'{lists}/train.txt', pipeline=train_pipeline),
        dict(**voc, data_prefix=augmented, ann_file=f'{lists}/aug.txt', pipeline=train_pipeline),
    ]),
)  # fmt: skip
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**voc, data_prefix=original, ann_file=f'{lists}/val.txt', pipeline=test_pipeline),
)  # fmt: skip
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
