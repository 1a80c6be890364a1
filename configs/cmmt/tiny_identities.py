# Plain CMPM with identities, which CMMT does without: people and schedule of tiny_full.py.
_base_ = [
    '../_base_/models/clip_tiny.py',
    '../_base_/datasets/procedural_street.py',
    '../_base_/schedules/cmmt_tiny.py',
    '../_base_/default_runtime.py',
]
model = dict(losses=[dict(type='CMPMLoss', tau=0.05)])
