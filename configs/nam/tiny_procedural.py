# NAM in small: the tiny CLIP on procedural people. `make demo` runs it.
_base_ = [
    '../_base_/models/clip_tiny.py',
    '../_base_/datasets/procedural.py',
    '../_base_/default_runtime.py',
]
model = dict(token_noise=dict(type='PatchSimilarityNoise', layer=3))
custom_hooks = [dict(type='NoiseAwareMaskingHook', p=0.15)]
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='Adam', lr=4e-4), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=4, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)
