# UniPT in small, from the encoders of tiny_separate.py: pseudo texts of drawn people. The README says how pictures and
# texts get into data/people, or $PEOPLE_ROOT.
_base_ = [
    '../_base_/models/vit_bert_tiny.py',
    '../_base_/datasets/procedural_bert.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='UniPT',
    losses=[dict(type='ITCLoss', tau=0.07, learnable=True)],
    beta=1.0,
    init_cfg=dict(type='EncoderWeights', checkpoint='work_dirs/tiny_separate/epoch_2.pth'))
custom_hooks = [dict(type='WholeWordMaskingHook', p=0.15, tokenizer={{_base_._tokenizer}})]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='LUPersonT',
        data_root='{{$PEOPLE_ROOT:data/people}}/LUPerson-T',
        pipeline={{_base_.train_pipeline}}))
optim_wrapper = dict(
    type='DeferredOptimWrapper',
    optimizer=dict(type='Adam', lr=1e-3, fused=True),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_interval=4)
