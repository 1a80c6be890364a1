# Text-IoU guided CMPM alone: no clusters, no mining.
_base_ = ['tiny_full.py']
model = dict(
    iou_losses=[dict(type='TextIoUCMPMLoss', tau=0.05, power=6)],
    cluster_memory=None)
custom_hooks = [
    dict(type='TextIoUHook'),
]
