# Procedural people: a noisy source to train on, three targets for direct transfer. Nothing to download.
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PadCrop', padding=3),
    dict(type='Tokenize', max_length=48),  # cuts the tail of 3% of the captions and saves a fifth of the time
    dict(type='PackSample'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Tokenize'),
    dict(type='PackSample'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='ArraySampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ProceduralPedestrians',
        domain='source',
        split='train',
        num_ids=8000,
        size=(64, 32),
        noise_rate=0.2,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type='ArraySampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='ProceduralPedestrians',
                domain='street',
                split='val',
                num_ids=100,
                size=(64, 32),
                pipeline=test_pipeline),
            dict(
                type='ProceduralPedestrians',
                domain='mall',
                split='val',
                num_ids=100,
                size=(64, 32),
                pipeline=test_pipeline),
            dict(
                type='ProceduralPedestrians',
                domain='station',
                split='val',
                num_ids=100,
                size=(64, 32),
                pipeline=test_pipeline),
        ]))
test_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type='ArraySampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='ProceduralPedestrians',
                domain='street',
                split='test',
                num_ids=300,
                size=(64, 32),
                pipeline=test_pipeline),
            dict(
                type='ProceduralPedestrians',
                domain='mall',
                split='test',
                num_ids=300,
                size=(64, 32),
                pipeline=test_pipeline),
            dict(
                type='ProceduralPedestrians',
                domain='station',
                split='test',
                num_ids=300,
                size=(64, 32),
                pipeline=test_pipeline),
        ]))
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(type='ReIDMetric')
test_evaluator = dict(type='ReIDMetric')
