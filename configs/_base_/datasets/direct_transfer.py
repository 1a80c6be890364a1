# Validation on the three benchmarks at once, none of them trained on: it chooses the epoch. Tests: benchmark_tests.py.
val_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', size=(384, 128)),
    dict(type='Tokenize'),
    dict(type='PackSample'),
]
val_dataloader = dict(
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
                split='val',
                pipeline=val_pipeline),
            dict(
                type='ICFGPEDES',
                data_root='{{$DATA_ROOT:data}}/ICFG-PEDES',
                split='val',
                pipeline=val_pipeline),
            dict(
                type='RSTPReid',
                data_root='{{$DATA_ROOT:data}}/RSTPReid',
                split='val',
                pipeline=val_pipeline),
        ]))
