# CLIP fine-tuned by RDE's triplet alignment (Qin et al., CVPR 2024), on global features alone.
_base_ = [
    '../_base_/models/clip_b16.py',
    '../_base_/datasets/icfg_pedes.py',
    '../_base_/datasets/benchmark_tests.py',
    '../_base_/schedules/irra_60e.py',
    '../_base_/default_runtime.py',
]
model = dict(losses=[dict(type='TALLoss', margin=0.1, tau=0.015)])
optim_wrapper = dict(paramwise_cfg=dict(rules=[dict(key='bias', lr_mult=2, decay_mult=0)]))
