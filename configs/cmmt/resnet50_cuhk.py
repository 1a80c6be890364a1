# CMMT on CUHK-PEDES, ResNet-50 and bi-LSTM: Zhao et al., ICCV 2021. First: python tools/build_vocab.py <this file>.
_base_ = [
    '../_base_/models/cmmt_resnet50.py',
    '../_base_/datasets/cuhk_pedes.py',
    '../_base_/schedules/cmmt_60e.py',
    '../_base_/default_runtime.py',
]
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='HideIdentity'),
    dict(type='Resize', size=(384, 128)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PadCrop', padding=10),
    dict(
        type='Tokenize',
        max_length=100,
        tokenizer=dict(type='WordTokenizer', vocab='{{$DATA_ROOT:data}}/CUHK-PEDES/words.txt', vocab_size=4096)),
    dict(type='PackSample'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', size=(384, 128)),
    dict(
        type='Tokenize',
        max_length=100,
        tokenizer=dict(type='WordTokenizer', vocab='{{$DATA_ROOT:data}}/CUHK-PEDES/words.txt', vocab_size=4096)),
    dict(type='PackSample'),
]
train_dataloader = dict(batch_size=128, drop_last=True, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
# In domain alone: the words of other data sets have no ids here.
test_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='ArraySampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='CUHKPEDES',
        data_root='{{$DATA_ROOT:data}}/CUHK-PEDES',
        split='test',
        pipeline=test_pipeline))
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(type='ReIDMetric')
test_evaluator = dict(type='ReIDMetric')
