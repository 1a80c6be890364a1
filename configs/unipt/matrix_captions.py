# Captions of the same 2,000 drawn people compared, one of each kind per picture, all rows with the same steps: static and
# dynamic (TDE) ones of an embedded captioner, and pseudo texts (UniPT). tools/compare_captions.py makes and compares all.
rows = [
    dict(name='CLIP', source='procedural_web', config='tiny_clip_luperson-t.py', checkpoint=''),
    dict(name='static', source='LUPerson-MLLM', config='../captioning/tiny_ts-qwen.py'),
    dict(name='TDE', source='LUPerson-MLLM', config='../captioning/tiny_td-qwen.py'),
    dict(name='UniPT', source='LUPerson-T', config='tiny_clip_luperson-t.py'),
]
