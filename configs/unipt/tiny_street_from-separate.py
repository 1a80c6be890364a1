# The same from encoders that were pre-trained apart. Run tiny_separate.py first.
_base_ = ['tiny_street.py']
model = dict(init_cfg=dict(checkpoint='work_dirs/tiny_separate/epoch_2.pth'))
