# Plain CMPM: an image and its own captions are positives, all else is negative.
_base_ = ['tiny_full.py']
model = dict(
    losses=[dict(type='CMPMLoss', tau=0.05)],
    iou_losses=[],
    cluster_memory=None)
custom_hooks = []
