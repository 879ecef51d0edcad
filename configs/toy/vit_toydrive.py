"""A tiny ViT of four blocks on drawn streets, all weights: the row Full of the toy suite, and its pretraining."""

_base_ = ['../_base_/models/small_vit.py', '../_base_/datasets/toydrive.py', '../_base_/schedules/adamw_120.py']
model = dict(
    data_preprocessor=dict(size=(64, 128), test_cfg=dict(size_divisor=8)),
    backbone=dict(
        model_name='vit_tiny_patch16_224', patch_size=8, img_size=(64, 128), embed_dim=96, depth=4, num_heads=3, out_indices=(3,)
    ),
    decode_head=dict(in_channels=96, channels=64),
)
train_dataloader = dict(dataset=dict(size=(64, 128)))
val_dataloader = dict(dataset=dict(size=(64, 128)))
test_dataloader = val_dataloader
