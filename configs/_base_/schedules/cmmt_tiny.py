# Four epochs of the tiny CLIP in batches of 128.
optim_wrapper = dict(
    type='DeferredOptimWrapper', optimizer=dict(type='Adam', lr=5e-4, fused=True), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=4, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=2)
