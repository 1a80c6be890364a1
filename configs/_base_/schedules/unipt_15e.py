# As the authors pre-trained: AdamW, no decay of biases and norms; linear warm-up over the first tenth of the steps, then
# linear to 0.
optim_wrapper = dict(
    type='DeferredOptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(
        type='AdamW', lr=1e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01, fused=True),
    paramwise_cfg=dict(
        rules=[
            dict(key='bias', decay_mult=0),
            dict(key='LayerNorm', decay_mult=0),
            dict(key='.ln', decay_mult=0),
        ]))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=1.5, convert_to_iter_based=True),
    dict(
        type='PolyLR', power=1.0, eta_min=0, by_epoch=True, begin=1.5, end=15, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=15, val_interval=1)
