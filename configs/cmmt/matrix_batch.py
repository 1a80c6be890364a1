# CMMT's parts in batches of 512, as eight GPUs make them, of 800 procedural people without labels. Such a batch holds
# several pairs of many people, and plain CMPM takes them for different ones; first the same in smaller batches.
_ten_epochs = {'train_cfg.max_epochs': 10, 'param_scheduler.1.end': 10}
_large = {
    **_ten_epochs,
    'train_dataloader.batch_size': 512,
    'optim_wrapper.optimizer.lr': 7e-4,
    'param_scheduler.0.end': 60,
}
_iou_only = {'model.cluster_memory': None, 'custom_hooks': [dict(type='TextIoUHook')]}
# Alone, mining from the second epoch on ends some runs in a collapse.
_mining_only = {
    'model.iou_losses': [dict(type='HardMiningLoss', loss_weight=10, start=4)],
    'custom_hooks': [dict(type='TextIoUHook')],
}
_street = dict(source='procedural_street')
rows = [
    dict(_street, name='CMPM, pairs, batch 128', config='tiny_baseline.py', options=_ten_epochs),
    dict(_street, name='CMPM, pairs', config='tiny_baseline.py', options=_large),
    dict(_street, name='clusters', config='tiny_clusters.py', options=_large),
    dict(_street, name='clusters and MPLR', config='tiny_mplr.py', options=_large),
    dict(_street, name='Text-IoU', config='tiny_iou.py', options={**_large, **_iou_only}),
    dict(_street, name='mining', config='tiny_baseline.py', options={**_large, **_mining_only}),
    dict(_street, name='CMMT', config='tiny_full.py', options={**_large, 'model.iou_losses.1.loss_weight': 10}),
    dict(_street, name='CMPM, identities', config='tiny_identities.py', options=_large),
]
