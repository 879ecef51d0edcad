"""FisherTune, Table 5, the columns without feature perturbation in training: mean of GTAV to Cityscapes, BDD100K, Mapillary."""

title = 'FisherTune, Table 5: GTAV to Cityscapes, BDD100K, Mapillary, without feature perturbation'
_titles = dict(adaptformer='AdaptFormer', vpt='VPT', rein='Rein', fishertune='FisherTune')
_paper = dict(eva02_l=(62.6, 60.8, 63.6, 64.4), dinov2_l=(62.7, 63.3, 64.3, 66.3))
_errata = {
    'eva02_l_rein': dict(mean='63.6 here and 63.4 in Table 1.'),
    'dinov2_l_fishertune': dict(mean='66.3 without and 66.5 with perturbation here; Table 1 gives 66.5 and 66.6.'),
}
runs = [
    dict(name=f'{vfm}_{method}', title=title, group=dict(eva02_l='EVA02-L', dinov2_l='DINOv2-L')[vfm], paper=dict(mean=figure),
         config=f'configs/{"fishertune/gtav" if method == "fishertune" else "baselines/adapters"}/{vfm}_{method}_gtav.py',
         errata=_errata.get(f'{vfm}_{method}', {}))
    for vfm, figures in _paper.items() for (method, title), figure in zip(_titles.items(), figures, strict=True)
]  # fmt: skip
_sets = ('cityscapes', 'bdd100k', 'mapillary')
columns = [*(dict(name=name, value=f'{name}/mIoU') for name in _sets), dict(name='mean', mean=_sets)]
notes = [
    'Runs of the same name are those of Table 1: share its --out.',
    'The columns "+FP" are not implemented: feature perturbation acts in the estimate of FisherTune, never in training.',
]
