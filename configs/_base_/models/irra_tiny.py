# IRRA over the tiny CLIP, for procedural people at 64x32.
model = dict(
    type='IRRA',
    data_preprocessor=dict(type='ReIDDataPreprocessor', trim_text=False),
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
    relation=dict(type='CrossModalRelation', depth=2, heads=4),
    num_ids=None,
    init_cfg=dict(type='CLIPPretrained', checkpoint='{{fileDirname}}/../../../mmreid_text/weights/tiny_web.pt'))
custom_hooks = [
    dict(type='UniformMaskingHook', p=0.15, force_one=True),
    dict(type='IdentityLabelHook'),
]
