# NAM on all four captions: Table 1's last row in small.
_base_ = ['tiny_all.py']
custom_hooks = [dict(type='NoiseAwareMaskingHook', p=0.15)]
model = dict(token_noise=dict(type='PatchSimilarityNoise', layer=3))
