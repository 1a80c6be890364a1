# 800 procedural people of one street, four pictures of each, two captions of a picture. Tested on other people of the same
# street, and on the other two domains.
_base_ = ['procedural.py']
train_dataloader = dict(
    batch_size=128,
    dataset=dict(domain='street', num_ids=800, images_per_id=4))
val_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='ProceduralPedestrians',
                domain='street',
                split='val',
                num_ids=100,
                size=(64, 32),
                pipeline={{_base_.test_pipeline}}),
        ]))
