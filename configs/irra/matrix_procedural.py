# The transfer matrix in small, on procedural people: tools/transfer_matrix.py runs it on a laptop.
_nam = dict(config='../nam/tiny_procedural.py')
rows = [
    dict(name='CLIP', source='procedural_web', config='../nam/tiny_procedural.py', checkpoint=''),
    dict(name='NAM', source='procedural_source', **_nam),
    dict(name='IRRA', source='procedural_street', config='tiny_street.py'),
    dict(name='NAM, then IRRA', source='procedural_street', config='tiny_street_from-nam.py', start=_nam),
    dict(name='IRRA', source='procedural_mall', config='tiny_mall.py'),
    dict(name='NAM, then IRRA', source='procedural_mall', config='tiny_mall_from-nam.py', start=_nam),
    dict(name='IRRA', source='procedural_station', config='tiny_station.py'),
    dict(name='NAM, then IRRA', source='procedural_station', config='tiny_station_from-nam.py', start=_nam),
]
