"""FisherTune, Figure 3: DINOv2-L with one or two groups of weights tuned, GTAV to Cityscapes, BDD100K and Mapillary.

A group is a kind of weights in a third of the blocks: twelve groups, 66 pairs, 78 runs of ViT-L in all.
`--only q_1-8__ffn_9-16` runs a part.
"""

title = 'FisherTune, Figure 3: groups of weights, DINOv2-L, GTAV to Cityscapes, BDD100K, Mapillary'
_groups = [(kind, first, first + 7) for kind in ('q', 'k', 'v', 'ffn') for first in (0, 8, 16)]
_chosen = [*((group,) for group in _groups), *((a, b) for i, a in enumerate(_groups) for b in _groups[i + 1:])]  # fmt: skip
_hook, _sets = 'custom_hooks.0', ('cityscapes', 'bdd100k', 'mapillary')
# every weight of the groups is selected, so their order does not matter
_everything = [f'{_hook}.criterion=random', f'{_hook}.schedule=constant', f'{_hook}.delta_min=1.0', f'{_hook}.delta_max=1.0']
runs = [
    dict(name='__'.join(f'{kind}_{first + 1}-{last + 1}' for kind, first, last in groups),
         title=' + '.join(f'{kind.upper()} B{first + 1}-{last + 1}' for kind, first, last in groups),
         config='configs/fishertune/gtav/dinov2_l_fishertune_gtav.py',
         options=[*_everything, 'optim_wrapper.paramwise_cfg.candidates.groups='
                  f'[{",".join(f"{kind}:{first}-{last}" for kind, first, last in groups)}]'])
    for groups in _chosen
]  # fmt: skip
columns = [*(dict(name=name, value=f'{name}/mIoU') for name in _sets), dict(name='mean', mean=_sets)]
notes = ['The paper gives a picture without numbers and does not print its ranges of blocks; thirds are ours.']
