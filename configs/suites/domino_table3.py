"""Domino, Table 3: real and synthetic training images in several ratios, Cityscapes to ACDC."""

_base_ = './domino_table1.py'
title = 'Domino, Table 3: real and synthetic images, Cityscapes to ACDC'
_rows = [
    ('vpd', 'VPD, 100/0', (76.87, 62.61, 81.45)),
    ('vpd_mix_75_25', 'VPD, 75/25', (77.45, 63.52, 82.01)),
    ('vpd_mix_50_50', 'VPD, 50/50', (77.07, 64.49, 83.68)),
    ('vpd_mix_0_100', 'VPD, 0/100', (71.24, 56.84, 79.79)),
    ('vpd_domino_sub_mix_50_50', 'Domino-Sub, 50/50', ()),
]
_columns = ('cityscapes', 'acdc', 'percent')
runs = [
    dict(
        name=name,
        title=title,
        config=f'configs/domino/{name}_cityscapes.py',
        paper=dict(zip(_columns, paper, strict=bool(paper))),
    )
    for name, title, paper in _rows
]
notes = ['ACDC pools the four conditions of its validation set. The paper has no number of Domino with synthetic images.']
