"""The small ViT tuned on CamVid by day, all weights: the row Full."""

_base_ = [
    '../../_base_/models/small_vit.py',
    '../../_base_/datasets/camvid_to_cities.py',
    '../../_base_/schedules/adamw_120.py',
]
checkpoint = '{{$SMALL_VIT:work_dirs/vit_pretrain_boston/iter_600.pth}}'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))
