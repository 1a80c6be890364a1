# The demo's start: the tiny CLIP pre-trained on procedural people described by short alt-text-like phrases, from a
# web-like domain of its own: no sentence of the re-identification domains, no wrong words. `make start` runs it.
_base_ = [
    '../_base_/models/clip_tiny.py',
    '../_base_/datasets/procedural.py',
    '../_base_/default_runtime.py',
]
model = dict(
    losses=[dict(type='ITCLoss', tau=0.05)],
    token_loss=dict(type='TokenPatchLoss', layer=3),
    init_cfg=None)
train_dataloader = dict(
    dataset=dict(domain='web', num_ids=40000))
optim_wrapper = dict(
    type='DeferredOptimWrapper', optimizer=dict(type='Adam', lr=1e-3, fused=True), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=200),
    dict(
        type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1)
