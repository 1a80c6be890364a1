# Batches of 16 identities with 4 captions each, over all GPUs.
_base_ = ['clip_b16_cuhk.py']
train_dataloader = dict(
    sampler=dict(type='IdentitySampler', num_identities=16, num_instances=4))
