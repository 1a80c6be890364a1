# What pre-training is worth (Table 2 in small): one fine-tuning, from three starts. tools/transfer_matrix.py runs it.
_street = dict(source='procedural_street')
_separate = dict(config='tiny_separate.py')
_unipt = dict(config='tiny_luperson-t.py', start=_separate)
rows = [
    dict(name='UniPT, no fine-tuning', source='LUPerson-T', **_unipt),
    dict(name='from random encoders', config='tiny_street_from-random.py', **_street),
    dict(name='from separate encoders', config='tiny_street_from-separate.py', start=_separate, **_street),
    dict(name='from UniPT', config='tiny_street.py', start=_unipt, **_street),
]
