"""CGNet from CamVid to Boston, six ways of fine-tuning, rates by equal sweeps; for two CPU cores.

Each method has five trials, scored on photos held out of the training set; LP-FT's trials start from a head that has not seen
these photos. Then it is trained with the chosen rates, tested, tested under corruptions, and its features are compared to the
pretrained ones.
"""

title = 'Real images: CGNet from CamVid to Boston'
seeds = [0, 1, 2]
_config = 'configs/daft/street/cgnet_{}_boston.py'.format
_titles = dict(lp='LP', ft='FT', lp_ft='LP-FT', ft_conversion='FT + conversion', integrated='integrated LP-FT', daft='DAFT')
_tied = ['--tied', '--feature-lrs', '0.1', '0.03', '0.01', '0.003', '0.001']
_two = ['--feature-lrs', '0.03', '0.01', '0.003', '--head-lrs', '0.3', '0.03', '--fixed-head-lr', '0.1']
_head = 'model.init_cfg.checkpoint='
_sweeps = dict(
    lp=['--head-only', '--head-lrs', '10.0', '3.0', '1.0', '0.3', '0.1'], ft=_tied, ft_conversion=_tied, integrated=_two,
    daft=_two,
    lp_ft=['--tied', 'lp-ft', '--feature-lrs', '0.003', '0.001', '0.0003', '0.0001', '0.00003',
           '--cfg-options', f'{_head}{{run:lp_without_held_out}}/iter_50.pth'],
)  # fmt: skip
_split = ['--budget', '5', '--group-by', '/([^/]+)__', '--holdout', '0.2', '--iters', '50', '--out', '{work_dir}']
_corruptions = ['gaussian_noise', 'motion_blur', 'fog', 'brightness', 'jpeg_compression']
_corrupt = ['--corruptions', *_corruptions, '--severities', '3', '--limit', '30', '--out', '{work_dir}']
_start = {name: [f'{_head}{{checkpoint:lp}}'] if name == 'lp_ft' else [] for name in _titles}
runs = [
    *(dict(name=f'sweep_{name}', once=True, row=None, output='sweep.json', command=[
        'lr_sweep.py', _config(name), *_split, *_sweeps[name]]) for name in _titles),
    dict(name='lp_without_held_out', once=True, row=None, output='iter_50.pth', command=[
        'train.py', '{run:sweep_lp}/trial_config.py', '--resume', '--work-dir', '{work_dir}', '--cfg-options',
        '{options:sweep_lp}', 'default_hooks.checkpoint.save_last=True', 'train_cfg.val_begin=51']),
    *(dict(name=name, title=title, config=_config(name), options=[f'{{options:sweep_{name}}}', *_start[name]])
      for name, title in _titles.items()),
    *(dict(name=f'{name}_corrupted', row=name, part='corrupted', output='robustness.json', command=[
        'analysis_tools/test_robustness.py', _config(name), f'{{checkpoint:{name}}}', *_corrupt,
        *(['--cfg-options', *_start[name]] if _start[name] else [])]) for name in _titles),
    *(dict(name=f'{name}_drift', row=name, part='drift', output='drift.json', command=[
        'analysis_tools/feature_drift.py', _config('daft'), '--reference', 'init', '--checkpoints',
        f'tuned={{checkpoint:{name}}}', '--limit', '60', '--out', '{work_dir}']) for name in _titles),
]  # fmt: skip
_last = 'features/tuned/-1/all'
columns = [
    dict(name='boston', title='Boston', value='boston/mIoU'),
    dict(name='misc', title='other cities', value='misc/mIoU'),
    dict(name='percent', title='mIoU%', value='percent'),
    dict(name='corrupted_boston', title='Boston corrupted', part='corrupted', value='summaries/boston/mPC'),
    dict(name='corrupted_misc', title='other cities corrupted', part='corrupted', value='summaries/misc/mPC'),
    dict(name='pooled_cosine', title='pooled cosine', part='drift', value=f'{_last}/median/pooled_cosine', best=None, digits=3),
    dict(name='pixel_cosine', title='pixel cosine', part='drift', value=f'{_last}/median/pixel_cosine', best=None, digits=3),
    dict(name='cka', title='CKA', part='drift', value=f'{_last}/cka', best=None, digits=3),
]
