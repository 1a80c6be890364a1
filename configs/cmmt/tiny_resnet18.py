# The paper's encoders in small, from random weights, on 100 procedural people. Shows that all of it runs, within two
# minutes; so few pictures teach a network with random weights little.
_base_ = [
    '../_base_/models/cmmt_resnet50.py',
    '../_base_/datasets/procedural.py',
    '../_base_/schedules/cmmt_60e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    image_encoder=dict(num_layers=18, embed_dim=128, pretrained=None),
    text_encoder=dict(vocab_size=512, embed_dim=128, word_dim=128, hidden=128))
custom_hooks = [
    dict(type='TextIoUHook'),
    dict(type='PseudoLabelHook', k1=8, k2=3, eps=0.4, min_samples=4, start=2),
    dict(type='SyncBuffersHook'),
]
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='HideIdentity'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PadCrop', padding=3),
    dict(
        type='Tokenize',
        max_length=48,
        tokenizer=dict(type='WordTokenizer', vocab='{{fileDirname}}/procedural_words.txt', vocab_size=512)),
    dict(type='PackSample'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(
        type='Tokenize',
        max_length=77,
        tokenizer=dict(type='WordTokenizer', vocab='{{fileDirname}}/procedural_words.txt', vocab_size=512)),
    dict(type='PackSample'),
]
train_dataloader = dict(
    batch_size=128,
    drop_last=True,
    dataset=dict(domain='street', num_ids=100, images_per_id=4, pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
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
    dataset=dict(
        datasets=[
            dict(
                type='ProceduralPedestrians',
                domain='street',
                split='test',
                num_ids=300,
                size=(64, 32),
                pipeline=test_pipeline),
        ]))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[6], gamma=0.1)]
train_cfg = dict(max_epochs=8, val_interval=4)
