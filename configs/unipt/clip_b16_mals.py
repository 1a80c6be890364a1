# NAM's dual encoder on MALS, unmasked captions, batch 64 x 8 GPUs: Tan et al., CVPR 2024, Tables 3 to 5.
_base_ = [
    '../_base_/models/clip_b16.py',
    '../_base_/datasets/mals.py',
    '../_base_/datasets/direct_transfer.py',
    '../_base_/datasets/benchmark_tests.py',
    '../_base_/schedules/adam_30e.py',
    '../_base_/default_runtime.py',
]
