# What each part of CMMT does where the text encoder starts at random, on 800 procedural people without labels, at the
# learning rate that is best for pairs alone.
_schedule = {
    'train_cfg.max_epochs': 12,
    'param_scheduler.1.end': 12,
    'param_scheduler.0.end': 100,
    'optim_wrapper.optimizer.lr': 7e-4,
}
_pairs = {**_schedule, 'model.losses': [dict(type='CMPMLoss', tau=0.05)], 'model.iou_losses': []}
_cmmt = {**_schedule, 'model.iou_losses.0.power': 12, 'model.iou_losses.1.start': 6}
_row = dict(source='procedural_street', config='tiny_random-text.py')
rows = [
    dict(_row, name='CMPM, pairs', options={**_pairs, 'model.cluster_memory': None, 'custom_hooks': []}),
    dict(_row, name='clusters', options={**_pairs, 'custom_hooks.1.refine': False}),
    dict(_row, name='clusters and MPLR', options=_pairs),
    dict(_row, name='CMMT', options=_cmmt),
]
