# CMMT on CUHK-PEDES from CLIP.
_base_ = [
    '../_base_/models/cmmt_b16.py',
    '../_base_/datasets/cuhk_pedes.py',
    '../_base_/datasets/benchmark_tests.py',
    '../_base_/schedules/irra_60e.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='HideIdentity'),
            dict(type='Resize', size=(384, 128)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding=10),
            dict(type='RandomErasing', prob=0.5),
            dict(type='Tokenize'),
            dict(type='PackSample'),
        ]))
optim_wrapper = dict(paramwise_cfg=dict(rules=[dict(key='bias', lr_mult=2, decay_mult=0)]))
