# IRRA on CUHK-PEDES over UniPT's encoders. Run vit_b16_luperson-t.py first.
_base_ = [
    '../_base_/datasets/cuhk_pedes.py',
    '../_base_/datasets/benchmark_tests_bert.py',
    '../_base_/schedules/irra_60e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    type='IRRA',
    data_preprocessor=dict(
        type='ReIDDataPreprocessor',
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        eot=None,
        trim_text=False),  # relation blocks read padding
    image_encoder=dict(
        type='ViTEncoder',
        width=768,
        depth=12,
        heads=12,
        patch_size=16,
        img_size=(384, 128),
        embed_dim=768),
    text_encoder=dict(
        type='BertTextEncoder', vocab_size=30522, width=768, depth=12, heads=12, embed_dim=768),
    losses=[dict(type='SDMLoss', tau=0.02)],
    relation=dict(type='CrossModalRelation', depth=4, vocab=30522),
    num_ids=None,
    init_cfg=dict(type='EncoderWeights', checkpoint='work_dirs/vit_b16_luperson-t/epoch_15.pth'))
custom_hooks = [
    dict(
        type='WholeWordMaskingHook',
        p=0.15,
        tokenizer=dict(type='WordPieceTokenizer', vocab='google-bert/bert-base-uncased')),
    dict(type='IdentityLabelHook'),
]
# Adam's eps of 1e-3 in IRRA's schedule is for CLIP's weights; BERT's and ImageNet's take the usual one.
optim_wrapper = dict(optimizer=dict(eps=1e-8))
train_dataloader = dict(dataset=dict(pipeline={{_base_._train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
