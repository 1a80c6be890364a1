# Plain CMPM and mining by Text-IoU: no clusters, and pairs as the target. Mining begins late, as from the start it drives
# some runs in batches of 512 into a collapse.
_base_ = ['tiny_full.py']
model = dict(
    losses=[dict(type='CMPMLoss', tau=0.05)],
    iou_losses=[dict(type='HardMiningLoss', loss_weight=10, start=4)],
    cluster_memory=None)
custom_hooks = [
    dict(type='TextIoUHook'),
]
