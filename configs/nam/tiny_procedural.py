# NAM in small: the tiny CLIP on procedural people. `make demo` runs it.
_base_ = [
    '../_base_/models/clip_tiny.py',
    '../_base_/datasets/procedural.py',
    '../_base_/default_runtime.py',
]
# SDM alone learns slowly from a start this weak: where a pair does not match yet, its gradient is large and points
# away from the likeliest wrong answer only. ITC leads, SDM sharpens, and the token loss keeps what the start knows of
# words and patches, which the noise is read from.
model = dict(
    losses=[dict(type='SDMLoss', tau=0.02), dict(type='ITCLoss', tau=0.05, loss_weight=10.0)],
    token_loss=dict(type='TokenPatchLoss', layer=3, max_pairs=32),
    token_noise=dict(type='PatchSimilarityNoise', layer=3))
custom_hooks = [dict(type='NoiseAwareMaskingHook', p=0.15)]
optim_wrapper = dict(
    type='DeferredOptimWrapper', optimizer=dict(type='Adam', lr=1e-3, fused=True), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=4, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)
