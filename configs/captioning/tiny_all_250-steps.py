# EM on all four captions, with as many steps as one source alone takes in eight epochs.
_base_ = ['tiny_all.py']
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=2, val_interval=1)
