# IRRA's groups and schedule for the tiny model.
optim_wrapper = dict(
    type='DeferredOptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='Adam', lr=1e-3, weight_decay=4e-5, fused=True),
    paramwise_cfg=dict(
        rules=[
            dict(key='cross', lr_mult=5),
            dict(key='bias', lr_mult=2, decay_mult=0),
            dict(key='classifier', lr_mult=5),
            dict(key='mlm_head', lr_mult=5),
        ]),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=4, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)
