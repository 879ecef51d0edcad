# Training images as Rein's: the shorter edge from 256 to 1024 px, crops of 512 px. Also the parts of the test pipelines.
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
scales = [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.75, 1.0, 1.25)]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
