# Unmasked captions on 0.1 M images.
_base_ = ['clip_b16_luperson.py']
custom_hooks = []
model = dict(token_noise=None)
train_dataloader = dict(dataset=dict(num_images=100_000))
