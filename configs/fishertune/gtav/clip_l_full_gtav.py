"""CLIP-L tuned in full, GTAV to Cityscapes, BDD100K, Mapillary. `VFM_HEAD=fpn` in the environment takes the light head."""

_base_ = [
    '../../_base_/models/vfm_{{$VFM_HEAD:mask2former}}.py',
    '../../_base_/backbones/clip_l.py',
    '../../_base_/datasets/gtav_to_cbm_512x512.py',
    '../../_base_/schedules/adamw_40k_vfm.py',
]
model = dict(backbone={{_base_.backbone}}, data_preprocessor={{_base_.data_preprocessor}})
