# What each part of CMMT does, on 800 procedural people without labels: tools/transfer_matrix.py runs it on a laptop.
rows = [
    dict(name='CLIP', source='procedural_web', config='tiny_full.py', checkpoint=''),
    dict(name='CMPM, pairs', source='procedural_street', config='tiny_baseline.py'),
    dict(name='clusters', source='procedural_street', config='tiny_clusters.py'),
    dict(name='clusters and MPLR', source='procedural_street', config='tiny_mplr.py'),
    dict(name='clusters, MPLR, Text-IoU', source='procedural_street', config='tiny_iou.py'),
    dict(name='CMMT', source='procedural_street', config='tiny_full.py'),
    dict(name='CMPM, identities', source='procedural_street', config='tiny_identities.py'),
]
