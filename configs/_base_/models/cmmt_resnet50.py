# CMMT as published: ResNet-50 and a bidirectional LSTM over words, features of 512 dimensions behind BatchNorm.
model = dict(
    type='CMMT',
    data_preprocessor=dict(
        type='ReIDDataPreprocessor', mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), eot=None),
    image_encoder=dict(type='ResNetEncoder', num_layers=50, embed_dim=512, pretrained='torchvision://resnet50'),
    text_encoder=dict(type='BiLSTMTextEncoder', vocab_size=4096, embed_dim=512),
    iou_losses=[
        dict(type='TextIoUCMPMLoss'),
        dict(type='HardMiningLoss', topk=20, positive=0.5, negative=0.2, margin=0.2, start=5),
    ],
    cluster_memory=dict(type='ClusterMemory', tau=0.05, momentum=0.2))
custom_hooks = [
    dict(type='TextIoUHook'),
    dict(type='PseudoLabelHook', start=5),
    dict(type='SyncBuffersHook'),  # ranks with statistics of their own agree on the mean after each epoch
]
sync_bn = 'torch'  # on several GPUs, statistics of the whole batch; torch has no such layer on CPUs
