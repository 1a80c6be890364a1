# ViT and BERT of 0.2 M parameters each for procedural people at 64x32: patches of 8x8, 4 blocks, features of 64 dimensions.
# What model they are in, a config says.
model = dict(
    data_preprocessor=dict(type='ReIDDataPreprocessor', eot=None),
    image_encoder=dict(
        type='ViTEncoder',
        width=64,
        depth=4,
        heads=4,
        patch_size=8,
        img_size=(64, 32),
        embed_dim=64),
    text_encoder=dict(
        type='BertTextEncoder',
        vocab_size=1024,
        width=64,
        depth=4,
        heads=4,
        embed_dim=64,
        context_length=64,
        dropout=0.0))
