"""FisherTune, Figure 3: DINOv2-L with all weights of one or two kinds tuned, GTAV to Cityscapes, BDD100K and Mapillary."""

title = 'FisherTune, Figure 3: kinds of weights, DINOv2-L, GTAV to Cityscapes, BDD100K, Mapillary'
_kinds = ['q', 'k', 'v', 'ffn']
_groups = [*([kind] for kind in _kinds), *([a, b] for i, a in enumerate(_kinds) for b in _kinds[i + 1:])]  # fmt: skip
_hook, _sets = 'custom_hooks.0', ('cityscapes', 'bdd100k', 'mapillary')
# every weight of the kinds is selected, so their order does not matter
_everything = [f'{_hook}.criterion=random', f'{_hook}.schedule=constant', f'{_hook}.delta_min=1.0', f'{_hook}.delta_max=1.0']
runs = [
    dict(name='_'.join(kinds), title=' + '.join(kinds).upper(), config='configs/fishertune/gtav/dinov2_l_fishertune_gtav.py',
         options=[*_everything, f'optim_wrapper.paramwise_cfg.candidates.kinds=[{",".join(kinds)}]'])
    for kinds in _groups
]  # fmt: skip
columns = [*(dict(name=name, value=f'{name}/mIoU') for name in _sets), dict(name='mean', mean=_sets)]
notes = ['The paper groups by blocks too, and gives a picture without numbers.']
