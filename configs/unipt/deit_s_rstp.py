# UniPT, DeiT-S, fine-tuned on RSTPReid: Shao et al., ICCV 2023, Table 7. Run deit_s_luperson-t.py first.
_base_ = ['vit_b16_rstp.py']
model = dict(
    image_encoder=dict(width=384, heads=6, embed_dim=512),
    text_encoder=dict(embed_dim=512),
    init_cfg=dict(checkpoint='work_dirs/deit_s_luperson-t/epoch_15.pth'))
