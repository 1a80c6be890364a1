# CMMT over CLIP ViT-B/16 at 384x128. CLIP's features are directions, so projection matching compares cosines; why Text-IoU
# is raised to a power, the README of configs/cmmt says.
model = dict(
    type='CMMT',
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
    iou_losses=[
        dict(type='TextIoUCMPMLoss', tau=0.02, power=6),
        dict(type='HardMiningLoss', topk=20, positive=0.5, negative=0.2, margin=0.2, start=5),
    ],
    cluster_memory=dict(type='ClusterMemory', tau=0.05, momentum=0.2),
    init_cfg=dict(type='CLIPPretrained', checkpoint='openai/clip-vit-base-patch16'))
custom_hooks = [
    dict(type='TextIoUHook'),
    dict(type='PseudoLabelHook', start=5),
]
