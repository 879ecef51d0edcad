"""DAFT, Table 3: DeepLabv3+ on MoCo-v2's ResNet-50, VOC and Cityscapes; with the conversions of Table 5, which is on CIFAR-10."""

title = 'DAFT, Table 3: DeepLabv3+, ResNet-50 of MoCo-v2'
seeds = [0, 1, 2]
gpus = 4
_rows = [
    ('lp', 'LP', (75.85, 65.69)),
    ('ft', 'FT', (78.47, 74.42)),
    ('lp_ft', 'LP-FT', (77.13, 66.41)),
    ('daft', 'DAFT', (79.23, 76.03)),
    ('ft_conversion', 'FT + conversion', ()),
    ('lp_ft_conversion', 'LP-FT + conversion', ()),
    ('integrated', 'integrated LP-FT', ()),
]
# mmseg's VOC has the metric of one domain
_voc = ['test_evaluator._delete_=True', 'test_evaluator.type=DomainIoUMetric']
_options = dict(voc=_voc, cityscapes=[])
runs = [
    dict(
        name=f'{name}_{data}', row=name, part=data, title=title, config=f'configs/daft/deeplabv3plus_r50_{name}_{data}.py',
        options=[*_options[data], *([f'model.init_cfg.checkpoint={{checkpoint:lp_{data}}}'] if name.startswith('lp_ft') else [])],
        paper={data: paper[i]} if paper else {},
    )
    for name, title, paper in _rows
    for i, data in enumerate(('voc', 'cityscapes'))
]  # fmt: skip
columns = [
    dict(name='voc', title='VOC', part='voc', value='all/mIoU'),
    dict(name='cityscapes', title='Cityscapes', part='cityscapes', value='cityscapes/mIoU'),
]
notes = ['The paper does not say how many seeds its figures have, nor which learning rates; tools/lr_sweep.py chooses them.']
