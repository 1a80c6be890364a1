# CMMT over the tiny CLIP, for procedural people at 64x32.
_base_ = ['clip_tiny.py']
model = dict(
    type='CMMT',
    losses=[],
    iou_losses=[dict(type='TextIoUCMPMLoss', tau=0.05, power=6), dict(type='HardMiningLoss', start=1)],
    cluster_memory=dict(type='ClusterMemory', tau=0.05, momentum=0.2))
