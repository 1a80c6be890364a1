# The paper's Eq. 1 to the letter: cosines are the logits.
_base_ = ['vit_b16_luperson-t.py']
model = dict(losses=[dict(type='ITCLoss', tau=1.0)])
