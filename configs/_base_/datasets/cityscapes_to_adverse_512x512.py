# Train on Cityscapes, test on FisherTune's six adverse sets, those of 1920x1080 px at half the size; FoggyDriving fits 1024x512.
# The validation during training is that of cityscapes_to_acdc_bdd_512x512.py. The same for any config: test.py --targets adverse.
_base_ = './cityscapes_to_acdc_bdd_512x512.py'
roots = dict(
    acdc='{{$ACDC_ROOT:data/acdc}}',
    foggy_zurich='{{$FOGGY_ZURICH_ROOT:data/foggy_zurich}}',
    foggy_driving='{{$FOGGY_DRIVING_ROOT:data/foggy_driving}}',
    dark_zurich='{{$DARK_ZURICH_ROOT:data/dark_zurich}}',
    nighttime_driving='{{$NIGHTTIME_DRIVING_ROOT:data/nighttime_driving}}',
)
half = (960, 540)
target_scales = dict(rain=half, snow=half, foggy_zurich=half, dark_zurich=half, nighttime_driving=half)
adverse_scale = dict(type='DomainResize', scale=(1024, 512), domains=target_scales)
test_pipeline = [_base_.load, adverse_scale, _base_.labels, _base_.pack]
tta_parts = [_base_.scales, _base_.flips, [_base_.labels], [_base_.pack]]
tta_pipeline = [_base_.load, adverse_scale, dict(type='TestTimeAug', transforms=tta_parts)]
adverse = [
    dict(type='FoggyZurichDataset', data_root=roots['foggy_zurich'], split='testv2'),
    dict(type='FoggyDrivingDataset', data_root=roots['foggy_driving']),
    dict(type='TaggedDarkZurichDataset', data_root=roots['dark_zurich'], split='val'),
    dict(type='TaggedNighttimeDrivingDataset', data_root=roots['nighttime_driving']),
    dict(type='ACDCDataset', data_root=roots['acdc'], split='val', conditions=('rain', 'snow')),
]
test_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        _delete_=True, type='DomainConcatDataset', pipeline=test_pipeline, datasets=[dict(s, test_mode=True) for s in adverse]
    ),
)  # fmt: skip
test_evaluator = dict(_delete_=True, type='DomainIoUMetric')
