# Train on GTAV and SYNTHIA, every image equally likely (24,966 and 9,400 images); test as gtav_to_cbm_512x512.py.
_base_ = './gtav_to_cbm_512x512.py'
synthia = dict(type='SYNTHIADataset', data_root='{{$SYNTHIA_ROOT:data/synthia}}')
train_dataloader = dict(
    dataset=dict(_delete_=True, type='DomainConcatDataset', pipeline=_base_.train_pipeline, datasets=[_base_.gtav, synthia])
)
