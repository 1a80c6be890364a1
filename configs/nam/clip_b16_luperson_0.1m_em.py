# Uniform masking (EM) on 0.1 M images: Table 1, row TDE.
_base_ = ['clip_b16_luperson.py']
custom_hooks = [dict(type='UniformMaskingHook', p=0.15)]
model = dict(token_noise=None)
train_dataloader = dict(dataset=dict(num_images=100_000))
