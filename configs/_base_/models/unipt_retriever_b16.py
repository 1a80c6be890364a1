# UniPT's fine-tuning: identities and ranking, of the encoders' features and of 6 parts that a PGU finds.
model = dict(
    type='UniPTRetriever',
    data_preprocessor=dict(
        type='ReIDDataPreprocessor', mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), eot=None),
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
    losses=[dict(type='RankingLoss', margin=0.2)],
    pgu=dict(type='PGU', queries=6, depth=2, heads=6, head_dim=512, mlp_width=512, embed_dim=512),
    gamma=1.0,
    num_ids=None,  # of the training set, filled in when training starts
    init_cfg=dict(type='EncoderWeights', checkpoint='work_dirs/vit_b16_luperson-t/epoch_15.pth'))
custom_hooks = [dict(type='IdentityLabelHook')]
