# Encoders apart, as ImageNet's and BERT: 8,000 drawn pictures of 2,000 people to classify, and the words of short
# alt-text-like phrases to fill in. No loss sees both.
_base_ = [
    '../_base_/models/vit_bert_tiny.py',
    '../_base_/datasets/procedural_bert.py',
    '../_base_/default_runtime.py',
]
model = dict(type='SeparateEncoders', num_ids=None)
custom_hooks = [
    dict(type='IdentityLabelHook'),
    dict(type='WholeWordMaskingHook', p=0.15, tokenizer={{_base_._tokenizer}}),
]
train_dataloader = dict(dataset=dict(domain='web', num_ids=2000, images_per_id=4))
# Retrieval says nothing about encoders that never met: the last epoch is taken.
val_dataloader = None
val_cfg = None
val_evaluator = None
default_hooks = dict(checkpoint=dict(save_best=None))
optim_wrapper = dict(type='DeferredOptimWrapper', optimizer=dict(type='Adam', lr=1e-3, fused=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
