# IRRA in small: the tiny CLIP fine-tuned on the procedural domain 'mall', tested there and on the other two.
_base_ = [
    '../_base_/models/irra_tiny.py',
    '../_base_/datasets/procedural.py',
    '../_base_/schedules/irra_tiny.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(dataset=dict(domain='mall', num_ids=500))
val_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='ProceduralPedestrians',
                domain='mall',
                split='val',
                num_ids=100,
                size=(64, 32),
                pipeline={{_base_.test_pipeline}}),
        ]))
