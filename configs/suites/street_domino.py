"""The small VPD on CamVid by day in every mode of the domain embedding, tested at dusk and on Boston; for two CPU cores."""

title = 'Real images: a small VPD on CamVid'
seeds = [0, 1, 2]
runs = [dict(name=mode, config=f'configs/domino/camvid/small_vpd_{mode}_camvid.py') for mode in ('none', 'add', 'sub', 'token')]
columns = [
    *(dict(name=name, value=f'{name}/mIoU') for name in ('day', 'dusk', 'boston', 'target')),
    dict(name='percent', title='mIoU%', value='percent'),
]
notes = ['The target pools dusk and Boston.']
