# EM with p = 0.10: Fig. 4.
_base_ = ['clip_b16_luperson.py']
custom_hooks = [dict(type='UniformMaskingHook', p=0.10)]
model = dict(token_noise=None)
train_dataloader = dict(dataset=dict(num_images=100_000))
