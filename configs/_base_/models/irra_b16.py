# IRRA over CLIP ViT-B/16 at 384x128: SDM, identities, and masked words that 4 relation blocks read from the image.
model = dict(
    type='IRRA',
    data_preprocessor=dict(type='ReIDDataPreprocessor', trim_text=False),  # relation blocks read padding
    image_encoder=dict(
        type='CLIPVisionEncoder',
        width=768,
        depth=12,
        heads=12,
        patch_size=16,
        img_size=(384, 128),
        embed_dim=512),
    text_encoder=dict(type='CLIPTextEncoder', width=512, depth=12, heads=8, embed_dim=512),
    losses=[dict(type='SDMLoss', tau=0.02)],
    relation=dict(type='CrossModalRelation', depth=4),
    num_ids=None,  # of the training set, filled in when training starts
    init_cfg=dict(type='CLIPPretrained', checkpoint='openai/clip-vit-base-patch16'))
custom_hooks = [
    dict(type='UniformMaskingHook', p=0.15, force_one=True),
    dict(type='IdentityLabelHook'),
]
