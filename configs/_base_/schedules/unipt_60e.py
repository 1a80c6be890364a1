# UniPT's fine-tuning rates (section 5.2): 1e-4, the text encoder 1e-5. The paper states no schedule; LGUR's is 60 epochs
# with rates divided by 10 after 20, 40 and 50.
optim_wrapper = dict(
    type='DeferredOptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='Adam', lr=1e-4, fused=True),
    paramwise_cfg=dict(rules=[dict(key='text_encoder', lr_mult=0.1)]))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[20, 40, 50], gamma=0.1)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=60, val_interval=1)
