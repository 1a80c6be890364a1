# The transfer matrix of the benchmarks (Tan et al., CVPR 2024, Tables 4 and 5): tools/transfer_matrix.py runs it.
_nam = dict(config='../nam/clip_b16_luperson.py')
rows = [
    dict(name='CLIP', source='WIT', config='../nam/clip_b16_zero-shot.py', checkpoint=''),
    dict(name='NAM', source='LUPerson-MLLM', **_nam),
    dict(name='IRRA', source='CUHK-PEDES', config='clip_b16_cuhk.py'),
    dict(name='NAM, then IRRA', source='CUHK-PEDES', config='clip_b16_cuhk_from-nam.py', start=_nam),
    dict(name='IRRA', source='ICFG-PEDES', config='clip_b16_icfg.py'),
    dict(name='NAM, then IRRA', source='ICFG-PEDES', config='clip_b16_icfg_from-nam.py', start=_nam),
    dict(name='IRRA', source='RSTPReid', config='clip_b16_rstp.py'),
    dict(name='NAM, then IRRA', source='RSTPReid', config='clip_b16_rstp_from-nam.py', start=_nam),
]
