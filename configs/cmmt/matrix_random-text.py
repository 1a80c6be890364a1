# What each part of CMMT does where the text encoder starts at random, on 800 procedural people without labels, at the
# learning rate that is best for pairs alone, 7e-4, and once more at 1e-3.
_schedule = {'train_cfg.max_epochs': 12, 'param_scheduler.1.end': 12, 'param_scheduler.0.end': 100}
_pairs = {**_schedule, 'model.losses': [dict(type='CMPMLoss', tau=0.05)], 'model.iou_losses': []}
_arms = {
    'CMPM, pairs': {**_pairs, 'model.cluster_memory': None, 'custom_hooks': []},
    'clusters': {**_pairs, 'custom_hooks.1.refine': False},
    'clusters and MPLR': _pairs,
    'CMMT': {**_schedule, 'model.iou_losses.0.power': 12, 'model.iou_losses.1.start': 6},
}
rows = [
    dict(
        name=_name + _shown,
        source='procedural_street',
        config='tiny_random-text.py',
        options={**_options, 'optim_wrapper.optimizer.lr': _lr})
    for _lr, _shown in ((7e-4, ''), (1e-3, ', 1e-3')) for _name, _options in _arms.items()
]
