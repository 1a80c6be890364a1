# Static and dynamic captions of a folder of crops by Qwen2.5-VL on vLLM servers (docs/captioning.md says how to start
# them). CAPTION_IMAGES names the folder, CAPTION_ENDPOINTS the servers, parted by commas.
name = "luperson_mllm"
_qwen = dict(
    type="OpenAIServer",
    endpoints="{{$CAPTION_ENDPOINTS:http://localhost:8000/v1}}",
    model="Qwen/Qwen2.5-VL-7B-Instruct",
    concurrency=128,
)

images = dict(type="ImageFolder", root="{{$CAPTION_IMAGES:data/LUPerson-MLLM/images}}")
sources = [
    dict(name="Ts-qwen", backend=_qwen, instruction="paper-static"),
    dict(name="Td-qwen", backend=_qwen, instruction="paper-dynamic", templates="grammar:2000"),
]
seed = 0
shard_size = 256
re_asks = 2
cleaning = dict(min_words=3, max_words=120, max_repeats=100)
