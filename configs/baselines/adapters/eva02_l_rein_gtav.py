"""EVA02-L with Rein, whose tokens are Mask2Former's queries, from GTAV; Rein learns at the head's rate.

`VFM_HEAD=fpn` needs `model.type=DomainAwareEncoderDecoder` and `model.backbone.adapter.query_channels=None` too.
"""

_base_ = '../../fishertune/gtav/eva02_l_full_gtav.py'
adapter = dict(type='Rein', tokens=100, rank=16, query_channels=256)
model = dict(type='ReinEncoderDecoder', backbone=dict(adapter=adapter))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
