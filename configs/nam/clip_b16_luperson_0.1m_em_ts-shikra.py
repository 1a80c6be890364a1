# EM on the captions Ts-shikra alone: Table 1.
_base_ = ['clip_b16_luperson.py']
custom_hooks = [dict(type='UniformMaskingHook', p=0.15)]
model = dict(token_noise=None)
train_dataloader = dict(dataset=dict(num_images=100_000, sources=['Ts-shikra']))
