# As the published runs of IRRA trained: their masking leaked into the captions that SDM and identities read.
_base_ = ['clip_b16_cuhk.py']
model = dict(sdm_on_masked=True)
