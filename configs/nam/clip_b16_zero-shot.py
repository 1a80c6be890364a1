# CLIP as released, tested without training: Table 1, row CLIP. Run with tools/test.py and no checkpoint.
_base_ = [
    '../_base_/models/clip_b16.py',
    '../_base_/datasets/direct_transfer.py',
    '../_base_/datasets/benchmark_tests.py',
    '../_base_/default_runtime.py',
]
