# RSTPReid: trained and validated on it. Tests, on it and across domains: benchmark_tests.py.
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', size=(384, 128)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PadCrop', padding=10),
    dict(type='RandomErasing', prob=0.5),
    dict(type='Tokenize'),
    dict(type='PackSample'),
]
val_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', size=(384, 128)),
    dict(type='Tokenize'),
    dict(type='PackSample'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='ArraySampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='RSTPReid',
        data_root='{{$DATA_ROOT:data}}/RSTPReid',
        split='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='ArraySampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='RSTPReid',
        data_root='{{$DATA_ROOT:data}}/RSTPReid',
        split='val',
        pipeline=val_pipeline))
