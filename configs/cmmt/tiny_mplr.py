# Plain CMPM and cluster memories, with refined clusters (MPLR).
_base_ = ['tiny_full.py']
model = dict(
    losses=[dict(type='CMPMLoss', tau=0.05)],
    iou_losses=[])
custom_hooks = [
    dict(type='PseudoLabelHook', k1=8, k2=3, eps=0.4, min_samples=4, start=1),
]
