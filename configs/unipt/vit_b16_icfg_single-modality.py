# The same from ImageNet and BERT, without UniPT's pre-training: Table 2, 'IN + Text'.
_base_ = ['vit_b16_icfg.py']
model = dict(
    init_cfg=dict(
        checkpoint=None,
        image='https://download.openmmlab.com/mmclassification/v0/vit/finetune/'
        'vit-base-p16_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-98e8652b.pth',
        text='google-bert/bert-base-uncased'))
