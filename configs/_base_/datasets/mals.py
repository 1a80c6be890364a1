# MALS: generated images of people, captioned by BLIP. docs/data.md says how to get it.
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='ArraySampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='MALS',
        data_root='{{$DATA_ROOT:data}}/MALS',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='Resize', size=(384, 128)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding=10),
            dict(type='RandomErasing', prob=0.5),
            dict(type='Tokenize'),
            dict(type='PackSample'),
        ]))
