"""Domino-Sub with CLIP's own logit scale (temperature 0.01), where alpha is far from uniform."""

_base_ = './vpd_domino_sub_cityscapes.py'
model = dict(domain_embedding=dict(temperature=0.01))
