# EM on the captions Td-shikra alone: Table 1 in small.
_base_ = ['tiny_all.py']
train_dataloader = dict(dataset=dict(sources=['Td-shikra']))
