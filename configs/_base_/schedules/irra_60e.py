# As the authors trained: Adam with eps 1e-3 and L2 decay; later rules override earlier ones. Linear warm-up over 5
# epochs from 0.1 (.1, .28, .46, .64, .82), cosine to 0 at epoch 60.
optim_wrapper = dict(
    type='DeferredOptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(
        type='Adam', lr=1e-5, betas=(0.9, 0.999), eps=1e-3, weight_decay=4e-5, fused=True),
    paramwise_cfg=dict(
        rules=[
            dict(key='cross', lr_mult=5),
            dict(key='bias', lr_mult=2, decay_mult=0),
            dict(key='classifier', lr_mult=5),
            dict(key='mlm_head', lr_mult=5),
        ]))
param_scheduler = [
    # mmengine reaches the full rate at end - 1.
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=6),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=5, end=60, T_max=55),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=60, val_interval=1)
