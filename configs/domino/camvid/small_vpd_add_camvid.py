"""Small VPD with W in mode add: CamVid by day -> dusk and Boston."""

_base_ = './small_vpd_sub_camvid.py'
model = dict(backbone=dict(fuse='add'))
