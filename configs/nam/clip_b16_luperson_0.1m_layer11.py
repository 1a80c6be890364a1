# NAM with token noise after block 11: Fig. 3.
_base_ = ['clip_b16_luperson.py']
model = dict(token_noise=dict(layer=11))
train_dataloader = dict(dataset=dict(num_images=100_000))
