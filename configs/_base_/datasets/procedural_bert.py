# Procedural people, captions in word pieces: one domain to train on, three to test on. Nothing to download.
_tokenizer = dict(type='WordPieceTokenizer', vocab='{{fileDirname}}/../../unipt/procedural_vocab.txt')
_tokenize = dict(type='Tokenize', max_length=64, tokenizer=_tokenizer)
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', size=(64, 32)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PadCrop', padding=3),
    _tokenize,
    dict(type='PackSample'),
]
test_pipeline = [
    dict(type='LoadImage'),
    _tokenize,
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
        domain='street',
        split='train',
        num_ids=500,
        size=(64, 32),
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
