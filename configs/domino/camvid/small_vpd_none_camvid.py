"""Small VPD without any domain embedding (the VPD baseline): CamVid by day -> dusk and Boston."""

_base_ = './small_vpd_sub_camvid.py'
model = dict(
    backbone=dict(fuse='none'),
    decode_head=dict(type='FPNHead', norm_cfg=dict(type='BN')),
    domain_embedding=None,
)
