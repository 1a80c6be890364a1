# CMMT with pairs as the target of projection matching; Text-IoU guides mining alone.
_base_ = ['tiny_full.py']
model = dict(
    losses=[dict(type='CMPMLoss', tau=0.05)],
    iou_losses=[dict(type='HardMiningLoss', start=2)])
