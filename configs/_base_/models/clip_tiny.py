# A CLIP of 3.6 M parameters for procedural people at 64x32: patches of 8x8, 4 + 4 blocks, features of 64 dimensions.
# The start that ships in the package was pre-trained by configs/clip/tiny_web.py.
model = dict(
    type='DualEncoder',
    data_preprocessor=dict(type='ReIDDataPreprocessor'),
    image_encoder=dict(
        type='CLIPVisionEncoder',
        width=64,
        depth=4,
        heads=4,
        patch_size=8,
        img_size=(64, 32),
        embed_dim=64),
    text_encoder=dict(type='CLIPTextEncoder', width=64, depth=4, heads=4, embed_dim=64),
    losses=[dict(type='SDMLoss', tau=0.02)],
    init_cfg=dict(type='CLIPPretrained', checkpoint='{{fileDirname}}/../../../mmreid_text/weights/tiny_web.pt'))
