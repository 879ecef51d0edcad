"""FisherTune, Table 4: which 5 % of the weights are tuned, Cityscapes to ACDC and BDD100K."""

title = 'FisherTune, Table 4: which weights are tuned, Cityscapes to BDD100K and ACDC'
_titles = dict(full='Full', freeze='Freeze', random='Random', random_q='Random Q', random_k='Random K', random_v='Random V',
               f='F', df='ΔF', fishertune='DRF')  # fmt: skip
_paper = {
    'eva02_l': ((62.1, 68.6), (56.5, 62.8), (61.1, 67.6), (62.8, 69.1), (61.9, 68.1), (62.9, 69.2), (63.8, 69.5), (63.1, 71.3),
                (65.8, 72.9)),
    'dinov2_l': ((63.7, 71.7), (63.3, 67.5), (62.7, 71.0), (63.2, 72.0), (63.5, 72.3), (63.2, 72.9), (63.8, 71.4), (64.5, 76.1),
                 (67.7, 77.5)),
}  # fmt: skip
_wrong = 'The column repeats Table 2, whose BDD100K is very probably GTAV to Cityscapes.'
runs = [
    dict(name=f'{vfm}_{method}', title=_titles[method], group=dict(eva02_l='EVA02-L', dinov2_l='DINOv2-L')[vfm],
         config=f'configs/fishertune/{"cityscapes" if method in ("full", "freeze", "fishertune") else "ablations"}'
                f'/{vfm}_{method}_cityscapes.py',
         # the target is ACDC alone, its conditions pooled
         options=['test_evaluator.target=[fog,night,rain,snow]'], paper=dict(bdd100k=bdd, acdc=acdc), errata=dict(bdd100k=_wrong))
    for vfm, figures in _paper.items() for method, (bdd, acdc) in zip(_titles, figures, strict=True)
]  # fmt: skip
columns = [
    dict(name='cityscapes', title='Cityscapes', value='cityscapes/mIoU'),
    dict(name='bdd100k', title='BDD100K', value='bdd100k/mIoU'),
    dict(name='acdc', title='ACDC', value='target/mIoU'),
]
notes = ['ACDC pools the four conditions of its validation set. Runs of the same name are those of Table 2: share its --out.']
