# NAM on 0.1 M images: Table 1, last row; the setting of all ablations.
_base_ = ['clip_b16_luperson.py']
train_dataloader = dict(dataset=dict(num_images=100_000))
