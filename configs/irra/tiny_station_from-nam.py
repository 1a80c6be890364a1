# IRRA in small from NAM's weights: run configs/nam/tiny_procedural.py first.
_base_ = ['tiny_station.py']
model = dict(
    init_cfg=dict(type='CLIPPretrained', checkpoint='work_dirs/tiny_procedural/epoch_4.pth'))
