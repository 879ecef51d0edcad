"""The small ViT on CamVid by day, the head alone: the row Freeze."""

_base_ = './vit_full_camvid.py'
model = dict(backbone=dict(frozen=True))
