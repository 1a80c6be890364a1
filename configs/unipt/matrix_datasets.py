# Training data compared as by Tan et al., CVPR 2024, Tables 3 to 5: MALS, LUPerson-T and LUPerson-MLLM in direct transfer,
# and IRRA from the first two (configs/irra/matrix.py has it from CLIP and NAM). tools/transfer_matrix.py runs it.
_mals = dict(config='clip_b16_mals.py')
_luperson_t = dict(config='clip_b16_luperson-t.py')
rows = [
    dict(name='CLIP', source='WIT', config='../nam/clip_b16_zero-shot.py', checkpoint=''),
    dict(name='SDM', source='MALS', **_mals),
    dict(name='SDM', source='LUPerson-T', **_luperson_t),
    dict(name='NAM', source='LUPerson-MLLM', config='../nam/clip_b16_luperson.py'),
    dict(name='MALS, then IRRA', source='CUHK-PEDES', config='irra_b16_cuhk_from-mals.py', start=_mals),
    dict(name='MALS, then IRRA', source='ICFG-PEDES', config='irra_b16_icfg_from-mals.py', start=_mals),
    dict(name='MALS, then IRRA', source='RSTPReid', config='irra_b16_rstp_from-mals.py', start=_mals),
    dict(
        name='LUPerson-T, then IRRA',
        source='CUHK-PEDES',
        config='irra_b16_cuhk_from-luperson-t.py',
        start=_luperson_t),
    dict(
        name='LUPerson-T, then IRRA',
        source='ICFG-PEDES',
        config='irra_b16_icfg_from-luperson-t.py',
        start=_luperson_t),
    dict(
        name='LUPerson-T, then IRRA',
        source='RSTPReid',
        config='irra_b16_rstp_from-luperson-t.py',
        start=_luperson_t),
]
