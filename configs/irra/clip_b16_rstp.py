# IRRA on RSTPReid from CLIP: Jiang and Ye, CVPR 2023; Tan et al., CVPR 2024, Table 4, first block.
_base_ = [
    '../_base_/models/irra_b16.py',
    '../_base_/datasets/rstpreid.py',
    '../_base_/datasets/benchmark_tests.py',
    '../_base_/schedules/irra_60e.py',
    '../_base_/default_runtime.py',
]
