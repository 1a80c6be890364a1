# NAM with p = 0.20: Fig. 4.
_base_ = ['clip_b16_luperson.py']
custom_hooks = [dict(type='NoiseAwareMaskingHook', p=0.20)]
train_dataloader = dict(dataset=dict(num_images=100_000))
