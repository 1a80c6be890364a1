# Uniform masking (EM) on all four captions of 2,000 procedural people, Table 1's row TDE in small. The README says how
# pictures and captions get into data/people, or $PEOPLE_ROOT.
_base_ = [
    '../_base_/models/clip_tiny.py',
    '../_base_/datasets/procedural.py',
    '../_base_/default_runtime.py',
]
# Losses and rates are those of configs/nam/tiny_procedural.py.
model = dict(
    losses=[dict(type='SDMLoss', tau=0.02), dict(type='ITCLoss', tau=0.05, loss_weight=10.0)],
    token_loss=dict(type='TokenPatchLoss', layer=3, max_pairs=32))
custom_hooks = [dict(type='UniformMaskingHook', p=0.15)]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='LUPersonMLLM',
        data_root='{{$PEOPLE_ROOT:data/people}}/LUPerson-MLLM',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='Resize', size=(64, 32)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding=3),
            dict(type='Tokenize', max_length=48),
            dict(type='PackSample'),
        ]))
optim_wrapper = dict(
    type='DeferredOptimWrapper', optimizer=dict(type='Adam', lr=1e-3, fused=True), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=8, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=8, val_interval=2)
