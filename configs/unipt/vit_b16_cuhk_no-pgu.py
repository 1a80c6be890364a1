# Without the PGU: Table 6's comparison, with ViT-B/16.
_base_ = ['vit_b16_cuhk.py']
model = dict(pgu=None)
