# DeiT-S from ImageNet and BERT, without UniPT's pre-training: Table 2, 'IN + Text'.
_base_ = ['vit_b16_icfg.py']
model = dict(
    image_encoder=dict(width=384, heads=6, embed_dim=512),
    text_encoder=dict(embed_dim=512),
    init_cfg=dict(
        checkpoint=None,
        image='https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth',
        text='google-bert/bert-base-uncased'))
