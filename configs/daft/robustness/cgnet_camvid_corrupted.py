"""The published CGNet on CamVid in fog, under the ordinary tools: validation stays clean, the test is corrupted. Another one with
`--cfg-options test_dataloader.dataset.pipeline.1.corruption=snow test_dataloader.dataset.pipeline.1.severity=5`; all sixteen
with tools/analysis_tools/test_robustness.py and configs/domino/camvid/cgnet_camvid.py.
"""

_base_ = ['../../domino/camvid/cgnet_camvid.py']
load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
corrupt = dict(type='Corrupt', corruption='fog', severity=3)
domain_image, labels, pack = dict(type='KeepDomainImage'), dict(type='LoadAnnotations'), dict(type='PackDomainInputs')
test_pipeline = [load, corrupt, domain_image, labels, pack]
flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
tta_pipeline = [load, corrupt, domain_image, dict(type='TestTimeAug', transforms=[flips, [labels], [pack]])]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
# beside the checkpoint lie the tables of clean images
test_evaluator = dict(out_dir='work_dirs/cgnet_camvid_corrupted')
