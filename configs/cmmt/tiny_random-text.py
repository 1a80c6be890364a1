# CMMT in small from an image encoder alone, as the paper's from ImageNet's ResNet: the text encoder starts at random, so at
# first captions lie anywhere.
_base_ = ['tiny_full.py']
model = dict(
    init_cfg=dict(
        type='EncoderWeights', checkpoint=None, image='{{fileDirname}}/../../mmreid_text/weights/tiny_web.pt'))
