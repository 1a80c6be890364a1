# Adam with weight decay on the image encoder alone and steps at epochs 20, 30 and 40, as the published scripts hint.
optim_wrapper = dict(
    type='DeferredOptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='Adam', lr=3e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=4e-5, fused=True),
    paramwise_cfg=dict(rules=[dict(key='text_encoder', decay_mult=0)]))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[20, 30, 40], gamma=0.1)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=60, val_interval=1)
