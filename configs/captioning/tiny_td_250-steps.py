# EM on the captions Td-qwen and Td-shikra, with as many steps as one source alone takes in eight epochs.
_base_ = ['tiny_all.py']
train_dataloader = dict(dataset=dict(sources=['Td-qwen', 'Td-shikra']))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=4, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=4, val_interval=1)
