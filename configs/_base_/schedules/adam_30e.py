# As the authors trained: Adam with eps 1e-3 (at the usual 1e-8 steps would be up to a thousand times longer) and L2
# decay on every parameter; linear warm-up over 5 epochs from 0.1 (.1, .28, .46, .64, .82), cosine to 0 at epoch 30.
optim_wrapper = dict(
    type='DeferredOptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(
        type='Adam', lr=1e-5, betas=(0.9, 0.999), eps=1e-3, weight_decay=4e-5, fused=True))
param_scheduler = [
    # mmengine reaches the full rate at end - 1.
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=6),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=5, end=30, T_max=25),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=1)
