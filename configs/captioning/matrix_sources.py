# The paper's Table 1 in small: what captions of each source are worth in direct transfer (README, Measured here).
# As in the paper every row trains for the same number of epochs, so that more captions are more steps, too; but for the
# last three, which take the steps of one source alone.
_source = dict(source='LUPerson-MLLM')
rows = [
    dict(name='CLIP', source='procedural_web', config='tiny_all.py', checkpoint=''),
    dict(name='Ts-qwen', config='tiny_ts-qwen.py', **_source),
    dict(name='Ts-shikra', config='tiny_ts-shikra.py', **_source),
    dict(name='Ts, both', config='tiny_ts.py', **_source),
    dict(name='Td-qwen', config='tiny_td-qwen.py', **_source),
    dict(name='Td-shikra', config='tiny_td-shikra.py', **_source),
    dict(name='Td, both', config='tiny_td.py', **_source),
    dict(name='all four', config='tiny_all.py', **_source),
    dict(name='all four, NAM', config='tiny_all_nam.py', **_source),
    dict(name='Ts, both, 250 steps', config='tiny_ts_250-steps.py', **_source),
    dict(name='Td, both, 250 steps', config='tiny_td_250-steps.py', **_source),
    dict(name='all four, 250 steps', config='tiny_all_250-steps.py', **_source),
]
