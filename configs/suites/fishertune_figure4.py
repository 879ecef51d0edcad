"""FisherTune, Figure 4: the strength of the simulated shift, DINOv2-L, GTAV to Cityscapes, BDD100K and Mapillary."""

title = 'FisherTune, Figure 4: strength of the simulated shift, DINOv2-L, GTAV to Cityscapes, BDD100K, Mapillary'
_config, _sets = 'configs/fishertune/gtav/dinov2_l_fishertune_gtav.py', ('cityscapes', 'bdd100k', 'mapillary')
runs = [
    *(dict(name=f'shift_{factor}', title=f'DRF, shift x {factor}', config=_config,
           options=[f'custom_hooks.0.estimation.shift.factor={factor}']) for factor in (0.25, 0.5, 1.0, 2.0, 4.0)),
    dict(name='fim', title='F alone', config=_config, options=['custom_hooks.0.criterion=F']),
]  # fmt: skip
columns = [*(dict(name=name, value=f'{name}/mIoU') for name in _sets), dict(name='mean', mean=_sets)]
notes = ['The paper draws scores of weights, without numbers; tools/analysis_tools/compare_scores.py compares those of two runs.']
