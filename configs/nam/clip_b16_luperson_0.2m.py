# NAM on 0.2 M images: Fig. 5.
_base_ = ['clip_b16_luperson.py']
train_dataloader = dict(dataset=dict(num_images=200_000))
