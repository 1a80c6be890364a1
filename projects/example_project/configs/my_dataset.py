# A data set of one's own as the only test set of the flagship.
_base_ = ['../../../configs/nam/clip_b16_luperson.py']
test_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='TextReIDDataset',
                table='{{$DATA_ROOT:data}}/my_dataset.arrow',
                split='test',
                pipeline=_base_.test_pipeline)
        ]))
