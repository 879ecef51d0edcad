"""Every method on every class of backbone at toy size, on drawn streets; for two CPU cores.

Each backbone is pretrained on other streets under all five conditions, as a foundation model has seen the world; its head is
thrown away. Then it is tuned to streets in clear weather and tested under all conditions.
"""

title = 'ToyDrive, tuned in clear weather'
seeds = [0, 1]
# pretraining is three times as long and has streets of its own
_end = {'vpd': '1.end=361', 'resnet': '0.end=360', 'vit': '0.end=360'}
_world = ["train_dataloader.dataset.conditions=['clear','fog','night','rain','snow']", 'train_dataloader.dataset.seed=7',
          'train_cfg.max_iters=360']  # fmt: skip
_pretrain = {name: [*_world, f'param_scheduler.{place}'] for name, place in _end.items()}
_pretrain['vit'] += ['optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=1.0']
_init = 'model.backbone.init_cfg'
_start = {
    name: [f'{_init}.type=Pretrained', f'{_init}.checkpoint={{checkpoint:{name}_pretrain}}', f'{_init}.prefix=backbone.']
    for name in _end
}
_rates = 'optim_wrapper.paramwise_cfg'
_adapter = 'model.backbone.adapter'
_lr, _criterion = f'{_rates}.custom_keys.backbone.lr_mult', 'custom_hooks.0.criterion'
_small = {
    'LoRA': [f'{_adapter}.rank=8'], 'VPT': [f'{_adapter}.tokens=20'], 'AdaptFormer': [f'{_adapter}.bottleneck=16'],
    'VQT': [f'{_adapter}.tokens=20'], 'Rein': [f'{_adapter}.tokens=20', f'{_adapter}.rank=8'],
}  # fmt: skip
_scores = 'custom_hooks.0.scores={run:vit_rank}/dr_fim.safetensors'
_rows = [
    ('vpd', 'none', 'VPD', 'vpd', []),
    *(('vpd', mode, f'Domino-{mode.title()}', 'vpd_domino', [f'model.backbone.fuse={mode}']) for mode in ('add', 'sub', 'token')),
    ('vpd', 'rank', 'Domino-Sub with FisherTune', 'vpd_fishertune', []),
    ('resnet', 'lp', 'LP', 'resnet_eval', []),
    ('resnet', 'ft', 'FT', 'resnet_ft', []),
    ('resnet', 'lp_ft', 'LP-FT', 'resnet_eval', [f'{_rates}.feature_lr=0.0003', f'{_rates}.head_lr=0.0003',
     'model.init_cfg.type=Pretrained', 'model.init_cfg.checkpoint={checkpoint:resnet_lp}']),
    ('resnet', 'ft_conversion', 'FT + conversion', 'resnet_ft_conversion', []),
    ('resnet', 'integrated', 'integrated LP-FT', 'resnet', []),
    ('resnet', 'daft', 'DAFT', 'resnet_daft', []),
    ('resnet', 'domino', 'FT + Domino head', 'resnet_domino', []),
    ('vit', 'freeze', 'Freeze', 'vit', ['model.backbone.frozen=True']),
    ('vit', 'linear', 'linear probe', 'vit', ['model.backbone.frozen=True', 'model.decode_head.num_convs=0',
     'model.decode_head.channels=96']),
    ('vit', 'full', 'Full', 'vit', []),
    ('vit', 'domino', 'Full + Domino head', 'vit_domino', []),
    *(('vit', name.lower(), name, 'vit', [f'{_adapter}.type={name}', *options, f'{_lr}=1.0'])
      for name, options in _small.items()),
    ('vit', 'childtune_f', 'ChildTune-F', 'vit_childtune', []),
    ('vit', 'childtune_d', 'ChildTune-D', 'vit_fishertune', [
        f'{_criterion}=F', 'custom_hooks.0.estimation.estimator=batch_gradient', 'custom_hooks.0.schedule=constant']),
    ('vit', 'random', 'Random', 'vit_fishertune', [f'{_criterion}=random']),
    ('vit', 'rank', 'FisherTune', 'vit_fishertune', []),
    *(('vit', name, f'FisherTune, {name}', 'vit_fishertune', [f'{_criterion}={name}', _scores])
      for name in ('F', 'dF', 'eq7', 'eq15')),
]  # fmt: skip
_group = {'vpd': 'tiny VPD', 'resnet': 'tiny ResNet', 'vit': 'tiny ViT'}
runs = [
    *(dict(name=f'{name}_pretrain', config=f'configs/toy/{name}_toydrive.py', once=True, row=None, options=options)
      for name, options in _pretrain.items()),
    *(dict(name=f'{kind}_{name}', config=f'configs/toy/{config}_toydrive.py', title=title, group=_group[kind],
           options=[*_start[kind], *options]) for kind, name, title, config, options in _rows),
]  # fmt: skip
columns = [
    dict(name='clear', value='clear/mIoU'),
    *(dict(name=name, value=f'{name}/mIoU') for name in ('fog', 'night', 'rain', 'snow')),
    dict(name='mean', title='mean of unseen', mean=['fog', 'night', 'rain', 'snow']),
    dict(name='percent', title='mIoU%', value='percent'),
]
notes = [
    'Networks of 0.1 to 3 million parameters, 120 iterations, learning rates that nobody swept: the table shows that every '
    'method runs, not which one is good.',
]
