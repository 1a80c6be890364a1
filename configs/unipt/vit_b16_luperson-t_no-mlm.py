# Contrast alone: Table 5's first row, with ViT-B/16.
_base_ = ['vit_b16_luperson-t.py']
model = dict(beta=0.0)
custom_hooks = []
