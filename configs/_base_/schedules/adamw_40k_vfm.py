"""40k iterations of AdamW as Rein's: 1e-4, decay 0.05, polynomial 0.9 to 0; the backbone at a tenth of the rate.

Norms, query and level embeddings are not decayed. Of the keys that match a name the longest counts.
"""

_base_ = '../default_runtime.py'
backbone_norm, embedding = dict(lr_mult=0.1, decay_mult=0.0), dict(decay_mult=0.0)
norms = ('.norm1.weight', '.norm1.bias', '.norm2.weight', '.norm2.bias', '.mlp.norm.weight', '.mlp.norm.bias', '.norm_pre.weight',
         '.norm_pre.bias')  # fmt: skip
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys=dict(
            backbone=dict(lr_mult=0.1), queries_=embedding, level_embed=embedding, **dict.fromkeys(norms, backbone_norm)
        ),
    ),
)  # fmt: skip
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=40000, by_epoch=False)]
# The final weights are tested: choosing a checkpoint by its targets would be training on the test.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=10000)
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
