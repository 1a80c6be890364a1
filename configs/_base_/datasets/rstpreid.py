# RSTPReid: trained and validated on it, tested on it and, across domains, on the other two.
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', size=(384, 128)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PadCrop', padding=10),
    dict(type='RandomErasing', prob=0.5),
    dict(type='Tokenize'),
    dict(type='PackSample'),
]
test_pipeline = [
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
        pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='ArraySampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='CUHKPEDES',
                data_root='{{$DATA_ROOT:data}}/CUHK-PEDES',
                split='test',
                pipeline=test_pipeline),
            dict(
                type='ICFGPEDES',
                data_root='{{$DATA_ROOT:data}}/ICFG-PEDES',
                split='test',
                pipeline=test_pipeline),
            dict(
                type='RSTPReid',
                data_root='{{$DATA_ROOT:data}}/RSTPReid',
                split='test',
                pipeline=test_pipeline),
        ]))
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(type='ReIDMetric')
test_evaluator = dict(type='ReIDMetric')
