default_scope = 'mmreid_text'

# 'val': the best epoch is chosen on validation identities; 'paper-val': on 10% of the training identities of every
# benchmark; 'test-selected': on the test splits, one best epoch per benchmark, as the published repositories do.
protocol = 'val'

default_hooks = dict(
    runtime_info=dict(type='DeferredLogHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2, save_best='mean/R1', rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    dataset_epoch=dict(type='DatasetEpochHook'),
    plain_checkpoint=dict(type='PlainCheckpointHook'),
    pretrained_weights=dict(type='PretrainedWeightsHook'),
    resume=dict(type='ResumeHook'))

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
log_processor = dict(by_epoch=True)
log_level = 'INFO'
randomness = dict(seed=0)
load_from = None
resume = False
