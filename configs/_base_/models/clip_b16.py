# CLIP ViT-B/16 at 384x128 (24x8 patches), features of 512 dimensions.
model = dict(
    type='DualEncoder',
    data_preprocessor=dict(type='ReIDDataPreprocessor'),
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
    # Hugging Face name or folder, or a file: OpenAI's ViT-B-16.pt, a state dict, a checkpoint of ours.
    init_cfg=dict(type='CLIPPretrained', checkpoint='openai/clip-vit-base-patch16'))
