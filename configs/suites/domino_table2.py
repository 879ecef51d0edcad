"""Domino, Table 2: the domain embedding added to or subtracted from the class tokens, Cityscapes to ACDC."""

_base_ = './domino_table1.py'
title = 'Domino, Table 2: modifications of VPD, Cityscapes to ACDC'
_rows = [
    ('vpd_frozen', 'VPD (frozen)', (69.19, 50.48, 72.96)),
    ('vpd', 'VPD', (76.87, 62.61, 81.45)),
    ('vpd_domino_add', 'Domino-Add', (77.20, 63.53, 82.29)),
    ('vpd_domino_sub', 'Domino-Sub', (76.13, 65.00, 85.38)),
    ('vpd_domino_token', 'Domino, own token', ()),
    ('vpd_domino_sub_t001', 'Domino-Sub, temperature 0.01', ()),
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
notes = ['ACDC pools the four conditions of its validation set. Rows without a figure of the paper are ours.']
