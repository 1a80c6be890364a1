# NAM with masked-language loss on 0.1 M images: Table 2, last row.
_base_ = ['clip_b16_luperson.py']
model = dict(
    type='IRRA',
    data_preprocessor=dict(trim_text=False),
    relation=dict(type='CrossModalRelation', depth=4),
    sdm_on_masked=True)
train_dataloader = dict(dataset=dict(num_images=100_000))
