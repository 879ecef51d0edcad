"""A small ViT from Boston's photos to CamVid by day, eight ways of tuning; for two CPU cores.

The criteria of one seed share the estimation of `rank`. `overlap` compares two estimations on disjoint halves of the images.
"""

title = 'Real images: a small ViT from Boston to CamVid'
seeds = [0, 1, 2]
_folder = 'configs/fishertune/street'
_start = ['model.backbone.init_cfg.checkpoint={checkpoint:pretrain}']
_titles = dict(rank='DRF (rank)', random='Random', F='F', dF='ΔF', eq7='DRF (eq. 7)', eq15='DRF (eq. 15)')
# the warm-up of every run is the same, so the scores of the first fit all
_scores = ['custom_hooks.0.scores={run:rank}/dr_fim.safetensors']
runs = [
    dict(name='pretrain', config=f'{_folder}/vit_pretrain_boston.py', once=True, row=None),
    dict(name='freeze', title='Freeze', config=f'{_folder}/vit_freeze_camvid.py', options=_start),
    *(dict(name=name, title=title, config=f'{_folder}/vit_fishertune_camvid.py',
           options=[*_start, f'custom_hooks.0.criterion={name}', 'custom_hooks.0.seed={seed}',
                    *(_scores if name not in ('rank', 'random') else [])]) for name, title in _titles.items()),
    dict(name='full', title='Full', config=f'{_folder}/vit_full_camvid.py', options=_start),
    *(dict(name=f'half{part}', once=True, row=None, output='dr_fim.safetensors', command=[
        'estimate_dr_fim.py', f'{_folder}/vit_fishertune_camvid.py', '{checkpoint:freeze}', '--out',
        '{work_dir}/dr_fim.safetensors', '--part', f'{part}/2', '--cfg-options', *_start]) for part in range(2)),
    dict(name='overlap', once=True, row=None, output='overlap.md', command=[
        'analysis_tools/compare_scores.py', '{run:half0}/dr_fim.safetensors', '{run:half1}/dr_fim.safetensors',
        '--out', '{work_dir}']),
]  # fmt: skip
columns = [
    *(dict(name=name, title=title, value=f'{name}/mIoU', digits=1)
      for name, title in dict(day='day', dusk='dusk', cities='other cities').items()),
    dict(name='unseen', title='mean of unseen', mean=['dusk', 'cities'], digits=1),
    dict(name='gain', title='unseen over Freeze', of='unseen', minus='freeze', digits=1),
]  # fmt: skip
