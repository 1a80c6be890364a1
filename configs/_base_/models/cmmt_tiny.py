# CMMT over the tiny CLIP, for procedural people at 64x32.
model = dict(
    type='CMMT',
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
    iou_losses=[dict(type='TextIoUCMPMLoss', tau=0.05, power=6), dict(type='HardMiningLoss', start=1)],
    cluster_memory=dict(type='ClusterMemory', tau=0.05, momentum=0.2),
    init_cfg=dict(type='CLIPPretrained', checkpoint='{{fileDirname}}/../../../mmreid_text/weights/tiny_web.pt'))
