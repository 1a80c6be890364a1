# IRRA on ICFG-PEDES from NAM's weights: Tan et al., CVPR 2024, Tables 4 and 5. Train configs/nam/clip_b16_luperson.py first.
_base_ = ['clip_b16_icfg.py']
model = dict(
    init_cfg=dict(type='CLIPPretrained', checkpoint='work_dirs/clip_b16_luperson/epoch_30.pth'))
