"""FisherTune of SAM-H, GTAV to Cityscapes, BDD100K, Mapillary. `VFM_HEAD=fpn` in the environment takes the light head."""

_base_ = [
    '../../_base_/models/vfm_{{$VFM_HEAD:mask2former}}.py',
    '../../_base_/backbones/sam_h.py',
    '../../_base_/datasets/gtav_to_cbm_512x512.py',
    '../../_base_/schedules/fisher_tune_40k.py',
]
model = dict(backbone={{_base_.backbone}}, data_preprocessor={{_base_.data_preprocessor}})
