# UniPT, ViT-B/16, fine-tuned on RSTPReid: Shao et al., ICCV 2023, Table 7. Run vit_b16_luperson-t.py first.
_base_ = [
    '../_base_/models/unipt_retriever_b16.py',
    '../_base_/datasets/rstpreid.py',
    '../_base_/datasets/benchmark_tests_bert.py',
    '../_base_/schedules/unipt_60e.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(dataset=dict(pipeline={{_base_._train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
