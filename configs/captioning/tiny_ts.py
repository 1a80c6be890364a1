# EM on the captions Ts-qwen and Ts-shikra alone: Table 1 in small.
_base_ = ['tiny_all.py']
train_dataloader = dict(dataset=dict(sources=['Ts-qwen', 'Ts-shikra']))
