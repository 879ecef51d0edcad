"""FisherTune, Table 3: DINOv2-L, Cityscapes to six sets in fog, at night, in rain and snow."""

title = 'FisherTune, Table 3: DINOv2-L, Cityscapes to adverse weather'
_base = 'configs/fishertune/cityscapes/dinov2_l'
_rows = [
    ('full', 'Full', f'{_base}_full', (50.4, 55.3, 62.7, 47.7, 75.2, 76.8, 61.3)),
    ('freeze', 'Freeze', f'{_base}_freeze', (50.3, 43.7, 54.3, 40.8, 66.1, 71.7, 54.5)),
    ('rein', 'Rein', 'configs/baselines/adapters/dinov2_l_rein', (55.5, 58.2, 64.3, 50.3, 78.2, 79.5, 64.3)),
    ('vqt', 'VQT', 'configs/baselines/adapters/dinov2_l_vqt', (54.1, 57.1, 61.9, 47.4, 76.1, 75.3, 62.0)),
    ('childtune_d', 'ChildTune-D', 'configs/baselines/adapters/dinov2_l_childtune_d', (55.2, 56.9, 64.5, 50.7, 77.7, 78.3, 63.9)),
    ('fishertune', 'FisherTune', f'{_base}_fishertune', (56.9, 60.0, 66.6, 53.2, 78.6, 82.2, 66.3)),
]
_sets = dict(
    foggy_zurich='Foggy Zurich', foggy_driving='Foggy Driving', dark_zurich='Dark Zurich', nighttime_driving='Nighttime Driving',
    rain='ACDC rain', snow='ACDC snow',
)  # fmt: skip
runs = [
    dict(name=f'dinov2_l_{name}', title=title, config=f'{config}_cityscapes.py', targets=['adverse'],
         paper=dict(zip([*_sets, 'mean'], paper, strict=True)))
    for name, title, config, paper in _rows
]  # fmt: skip
columns = [
    *(dict(name=name, title=title, value=f'{name}/mIoU') for name, title in _sets.items()),
    dict(name='mean', mean=list(_sets)),
]
notes = ['Validation images of Dark Zurich and ACDC; splits and scales are those of `tools/test.py --targets adverse`.']
