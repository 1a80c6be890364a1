# NAM with 512 pairs in the loss on one GPU, encoded 64 at a time: the flagship's batch in a fraction of its memory.
_base_ = ['clip_b16_luperson.py']
model = dict(micro_batch=64)
train_dataloader = dict(batch_size=512)
