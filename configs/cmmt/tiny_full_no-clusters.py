# CMMT without clusters.
_base_ = ['tiny_full.py']
model = dict(
    cluster_memory=None)
custom_hooks = [
    dict(type='TextIoUHook'),
]
