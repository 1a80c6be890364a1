# CMMT in small: the tiny CLIP on 800 procedural people without labels.
_base_ = [
    '../_base_/models/cmmt_tiny.py',
    '../_base_/datasets/procedural_street.py',
    '../_base_/schedules/cmmt_tiny.py',
    '../_base_/default_runtime.py',
]
custom_hooks = [
    dict(type='TextIoUHook'),
    # Neighbourhoods for people of whom there are four pictures; the paper's are for more.
    dict(type='PseudoLabelHook', k1=8, k2=3, eps=0.4, min_samples=4, start=1),
]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='HideIdentity'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding=3),
            dict(type='Tokenize', max_length=48),
            dict(type='PackSample'),
        ]))
