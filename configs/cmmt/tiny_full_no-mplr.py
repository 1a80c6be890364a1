# CMMT without MPLR: clusters as DBSCAN finds them.
_base_ = ['tiny_full.py']
custom_hooks = [
    dict(type='TextIoUHook'),
    dict(type='PseudoLabelHook', k1=8, k2=3, eps=0.4, min_samples=4, start=2, refine=False),
]
