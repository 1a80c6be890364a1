# The same from random encoders.
_base_ = ['tiny_street.py']
model = dict(init_cfg=None)
