# CMMT in small: the tiny CLIP on 800 procedural people without labels, four pictures of each, two captions of a picture.
# Tested on people of the same street, and on the other two domains.
_base_ = [
    '../_base_/models/cmmt_tiny.py',
    '../_base_/datasets/procedural.py',
    '../_base_/default_runtime.py',
]
custom_hooks = [
    dict(type='TextIoUHook'),
    # Neighbourhoods for people of whom there are four pictures; the paper's are for more.
    dict(type='PseudoLabelHook', k1=8, k2=3, eps=0.4, min_samples=4, start=1),
]
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        domain='street',
        num_ids=800,
        images_per_id=4,
        pipeline=[
            dict(type='LoadImage'),
            dict(type='HideIdentity'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding=3),
            dict(type='Tokenize', max_length=48),
            dict(type='PackSample'),
        ]))
val_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='ProceduralPedestrians',
                domain='street',
                split='val',
                num_ids=100,
                size=(64, 32),
                pipeline={{_base_.test_pipeline}}),
        ]))
optim_wrapper = dict(
    type='DeferredOptimWrapper', optimizer=dict(type='Adam', lr=5e-4, fused=True), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=4, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=2)
