# Testing on the three benchmarks at once, captions in BERT's word pieces: in domain or direct transfer.
_tokenize = dict(
    type='Tokenize',
    max_length=100,
    tokenizer=dict(type='WordPieceTokenizer', vocab='google-bert/bert-base-uncased'))
_train_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', size=(384, 128)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PadCrop', padding=10),
    _tokenize,
    dict(type='PackSample'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', size=(384, 128)),
    _tokenize,
    dict(type='PackSample'),
]
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
