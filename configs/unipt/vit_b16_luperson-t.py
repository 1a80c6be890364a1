# UniPT, ViT-B/16, on LUPerson-T: Shao et al., ICCV 2023, Table 2. Batches of 512: 8 processes of 64.
_base_ = [
    '../_base_/models/unipt_b16.py',
    '../_base_/datasets/luperson_t.py',
    '../_base_/datasets/benchmark_tests_bert.py',
    '../_base_/schedules/unipt_15e.py',
    '../_base_/default_runtime.py',
]
# Without crops and erasing, as the published code.
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='Resize', size=(384, 128)),
            dict(type='RandomFlip', prob=0.5),
            {{_base_._tokenize}},
            dict(type='PackSample'),
        ]))
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
                pipeline={{_base_.test_pipeline}}),
            dict(
                type='ICFGPEDES',
                data_root='{{$DATA_ROOT:data}}/ICFG-PEDES',
                split='val',
                pipeline={{_base_.test_pipeline}}),
            dict(
                type='RSTPReid',
                data_root='{{$DATA_ROOT:data}}/RSTPReid',
                split='val',
                pipeline={{_base_.test_pipeline}}),
        ]))
