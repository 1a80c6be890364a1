# Text-IoU guided CMPM and refined clusters: CMMT without mining.
_base_ = ['tiny_full.py']
model = dict(
    iou_losses=[dict(type='TextIoUCMPMLoss', tau=0.05, power=6)])
