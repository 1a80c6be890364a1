# IRRA on CUHK-PEDES from CLIP trained on LUPerson-T: Tan et al., Tables 4 and 5. Train clip_b16_luperson-t.py first.
_base_ = ['../irra/clip_b16_cuhk.py']
model = dict(
    init_cfg=dict(type='CLIPPretrained', checkpoint='work_dirs/clip_b16_luperson-t/epoch_30.pth'))
