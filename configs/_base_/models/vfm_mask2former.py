"""Rein's segmentor for foundation models: parameter-free pyramid, Mask2Former (20.6 M parameters); any file of ../backbones."""

model = dict(
    type='DomainAwareEncoderDecoder',
    # the channels are the backbone's
    neck=dict(type='ScalePyramid', scales=(4, 2, 1, 0.5)),
    decode_head=dict(type='HFMask2FormerHead', num_classes=19),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
