# UniPT, DeiT-S, on LUPerson-T: Shao et al., ICCV 2023, Table 2. Both modalities meet in 512 dimensions.
_base_ = ['vit_b16_luperson-t.py']
model = dict(
    image_encoder=dict(width=384, heads=6, embed_dim=512),
    text_encoder=dict(embed_dim=512),
    init_cfg=dict(image='https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth'))
