# Captions of 2,000 procedural people by the embedded captioner: no download, no GPU, half a minute on one core.
name = "procedural_captions"
_world = dict(domain="source", num_ids=2000, seed=0)
_qwen = dict(type="Procedural", captioner="qwen", noise_rate=0.2, **_world)
_shikra = dict(type="Procedural", captioner="shikra", noise_rate=0.2, **_world)

images = dict(type="ProceduralImages", **_world)
sources = [
    dict(name="Ts-qwen", backend=_qwen, instruction="static"),
    dict(name="Td-qwen", backend=_qwen, instruction="dynamic", templates="bank"),
    dict(name="Ts-shikra", backend=_shikra, instruction="static"),
    dict(name="Td-shikra", backend=_shikra, instruction="dynamic", templates="grammar:2000"),
]
seed = 0
