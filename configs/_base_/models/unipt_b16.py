# UniPT's pre-training: ViT-B/16 of ImageNet at 384x128 (24x8 patches) and BERT, features of 768 dimensions.
_tokenizer = dict(type='WordPieceTokenizer', vocab='google-bert/bert-base-uncased')
model = dict(
    type='UniPT',
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
    # The paper's Eq. 1 has no temperature: dict(type='ITCLoss', tau=1).
    losses=[dict(type='ITCLoss', tau=0.07, learnable=True)],
    beta=1.0,
    # Files, folders or URLs; BERT's also by Hugging Face name.
    init_cfg=dict(
        type='EncoderWeights',
        image='https://download.openmmlab.com/mmclassification/v0/vit/finetune/'
        'vit-base-p16_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-98e8652b.pth',
        text='google-bert/bert-base-uncased'))
custom_hooks = [dict(type='WholeWordMaskingHook', p=0.15, tokenizer=_tokenizer)]
