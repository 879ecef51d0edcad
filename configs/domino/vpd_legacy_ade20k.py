"""Official VPD on ADE20K: where an official checkpoint runs after tools/model_converters/vpd_official.py.

VPD's recipe is for 8 GPUs with 2 images each: tools/dist_train.sh CONFIG 8. The class embeddings are VPD's own file
(segmentation/class_embeddings.pth of its repository).
"""

_base_ = ['../_base_/models/vpd_fpn.py', '../_base_/datasets/ade20k_512x512.py', '../_base_/schedules/adamw_80k.py']
embeddings = dict(path='data/embeddings/class_embeddings.pth', row_names='ADE20KDataset', classes='ADE20KDataset')
model = dict(
    backbone=dict(preset='vpd_legacy', class_embeddings=dict(_delete_=True, **embeddings)),
    decode_head=dict(num_classes=150, loss_decode=dict(_delete_=True, type='CrossEntropyLoss')),
)
optim_wrapper = dict(paramwise_cfg=dict(legacy_norm_lr=True))
default_hooks = dict(checkpoint=dict(save_best='mIoU'))
