# Train on SYNTHIA, test as gtav_to_cbm_512x512.py. Terrain, truck and train never occur in training: compare 16 classes.
_base_ = './gtav_to_cbm_512x512.py'
synthia = dict(type='SYNTHIADataset', data_root='{{$SYNTHIA_ROOT:data/synthia}}')
train_dataloader = dict(dataset=dict(_delete_=True, **synthia, pipeline=_base_.train_pipeline))
