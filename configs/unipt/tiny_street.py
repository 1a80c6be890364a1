# UniPT's fine-tuning in small, on the procedural domain 'street'. Run tiny_luperson-t.py first.
_base_ = [
    '../_base_/models/vit_bert_tiny.py',
    '../_base_/datasets/procedural_bert.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='UniPTRetriever',
    losses=[dict(type='RankingLoss', margin=0.2)],
    pgu=dict(type='PGU', queries=6, depth=2, heads=4, head_dim=32, mlp_width=64, embed_dim=32),
    num_ids=None,
    init_cfg=dict(type='EncoderWeights', checkpoint='work_dirs/tiny_luperson-t/epoch_20.pth'))
custom_hooks = [dict(type='IdentityLabelHook')]
optim_wrapper = dict(
    type='DeferredOptimWrapper',
    optimizer=dict(type='Adam', lr=1e-3, fused=True),
    clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=True, milestones=[8], gamma=0.1),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10, val_interval=2)
