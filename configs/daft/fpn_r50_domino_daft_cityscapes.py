"""DAFT and Domino in one: the pretrained ResNet-50 is converted to Cityscapes, its head follows the domain embedding.

Only the backbone's BatchNorm is pretrained. After load_from of a trained Domino segmentor, its head's DominoNorms can be
converted, too: custom_hooks.0.modules=['backbone','decode_head'].
Deviations from DAFT: AdamW with warm-up as in the other Domino configs; the rates are ours.
"""

_base_ = '../baselines/fpn_r50_domino_cityscapes.py'
optim_wrapper = dict(constructor='DAFTOptimWrapperConstructor', paramwise_cfg=dict(_delete_=True, feature_lr=8e-6, head_lr=8e-5))
custom_hooks = [dict(type='BNConversionHook', modules=('backbone',))]
