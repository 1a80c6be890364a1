# IRRA on RSTPReid from CLIP trained on MALS: Tan et al., Tables 4 and 5. Train clip_b16_mals.py first.
_base_ = ['../irra/clip_b16_rstp.py']
model = dict(
    init_cfg=dict(type='CLIPPretrained', checkpoint='work_dirs/clip_b16_mals/epoch_30.pth'))
