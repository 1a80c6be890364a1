"""The transformers back end with a small random Qwen2.5-VL, its real processor and a tokenizer trained here."""

import asyncio
import io

import numpy as np
import pytest
import torch
from PIL import Image

from mmreid_text.captioning.backends import BackendError, CaptionRequest, TransformersLocal, UnreadableImage
from mmreid_text.captioning.instructions import INSTRUCTIONS
from mmreid_text.captioning.templates import TEMPLATES

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
SPECIAL += ["<|video_pad|>"]
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STATIC = INSTRUCTIONS["paper-static"].text
LONGEST = 12


def train_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([*TEMPLATES, STATIC], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": SPECIAL[3:]})
    return fast


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Model and processor as a user would download them."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    path = tmp_path_factory.mktemp("vlm")
    tokenizer = train_tokenizer()
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(SPECIAL)))
    pixels = dict(min_pixels=28 * 28, max_pixels=4 * 28 * 28)
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**pixels), tokenizer, Qwen2VLVideoProcessor(**pixels), chat_template=CHAT
    )
    processor.save_pretrained(path)
    torch.manual_seed(0)
    cfg = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            rope_scaling={"type": "mrope", "mrope_section": [1, 1, 2], "rope_type": "default"},
            pad_token_id=ids["<|endoftext|>"],
            eos_token_id=ids["<|im_end|>"],
        ),
        vision_config=dict(
            depth=2, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=32, fullatt_block_indexes=[1]
        ),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        pad_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|im_end|>"],
    )
    model = Qwen2_5_VLForConditionalGeneration(cfg)
    with torch.no_grad():  # so that answers differ between images
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    model.save_pretrained(path)
    return path


def jpeg(seed, size=(48, 96)):
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def requests():
    """Images and instructions of several sizes."""
    texts = [STATIC, "Describe.", INSTRUCTIONS["paper-dynamic"].render(TEMPLATES[3])]
    contents = [jpeg(i, (30 + 20 * i, 60 + 10 * i)) for i in range(5)]
    return [
        CaptionRequest(f"{i}.jpg", lambda content=content: content, texts[i % 3], None, "Ts-x", 0, 0)
        for i, content in enumerate(contents)
    ]


def ask(folder, asked, **options):
    async def run():
        async with TransformersLocal(str(folder), device="cpu", max_new_tokens=LONGEST, **options) as backend:
            return await asyncio.gather(*(backend.caption(request) for request in asked))

    return asyncio.run(run())


def plain_answers(folder, asked, **generation):
    """Each request by itself, as the model's page shows it."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    answers = []
    for request in asked:
        image = Image.open(io.BytesIO(request.read())).convert("RGB")
        content = [{"type": "image", "image": image}, {"type": "text", "text": request.instruction}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            tokens = model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False, **generation)
        answers.append((inputs["input_ids"].shape[1], tokens[0, inputs["input_ids"].shape[1] :]))
    return answers, processor


@pytest.mark.parametrize("batch_size", [1, 4])
def test_batches_say_what_the_model_says_of_each_image(folder, batch_size):
    answers = ask(folder, requests(), batch_size=batch_size, temperature=0.0)
    plain, processor = plain_answers(folder, requests())
    expected = [processor.decode(tokens, skip_special_tokens=True).strip() for _, tokens in plain]
    assert [answer.text for answer in answers] == expected
    assert len(set(expected)) > 3
    assert [answer.prompt_tokens for answer in answers] == [prompt for prompt, _ in plain]


def test_half_precision_serves(folder):
    answers = ask(folder, requests(), batch_size=4, temperature=0.0, dtype="bfloat16")
    assert all(answer.completion_tokens == LONGEST and answer.text for answer in answers)


def test_an_answer_ends_at_the_end_token(folder, tmp_path):
    from transformers import GenerationConfig

    plain, processor = plain_answers(folder, requests()[:2])
    end = int(plain[0][1][3])
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    GenerationConfig(eos_token_id=[end], pad_token_id=0).save_pretrained(tmp_path)
    first, _ = ask(tmp_path, requests()[:2], batch_size=2, temperature=0.0)
    length = plain[0][1].tolist().index(end) + 1
    assert first.completion_tokens == length
    assert first.error in (None, "empty")
    assert first.text == processor.decode(plain[0][1][:length], skip_special_tokens=True).strip()
    cut, _ = ask(folder, requests()[:2], batch_size=2, temperature=0.0)
    assert (cut.error, cut.completion_tokens) == ("cut", LONGEST)


def test_sampling_differs_between_attempts_and_not_between_runs(folder):
    first = requests()[0]
    again = CaptionRequest(first.image_name, first.read, first.instruction, None, "Ts-x", 0, 1)
    texts = [ask(folder, [request], temperature=2.0)[0].text for request in (first, first, again)]
    assert texts[0] == texts[1] != texts[2]


def test_a_damaged_image_fails_alone(folder):
    cut = requests()[0].read()[:200]
    bad = CaptionRequest("cut.jpg", lambda: cut, "Describe.", None, "Ts-x", 0, 0)

    async def run():
        async with TransformersLocal(str(folder), device="cpu", max_new_tokens=2) as backend:
            return await asyncio.gather(backend.caption(bad), backend.caption(requests()[1]), return_exceptions=True)

    error, answer = asyncio.run(run())
    assert isinstance(error, UnreadableImage)
    assert "cut.jpg" in str(error)
    assert answer.completion_tokens == 2


def test_an_image_that_the_processor_refuses_fails_alone(folder):
    line = io.BytesIO()
    Image.new("RGB", (900, 2)).save(line, "PNG")
    bad = CaptionRequest("line.png", line.getvalue, "Describe.", None, "Ts-x", 0, 0)
    first, refused, last = ask(folder, [requests()[0], bad, requests()[1]], batch_size=3, temperature=0.0)
    assert (refused.error, refused.text) == ("request", "")
    assert "the processor refuses line.png: " in refused.detail
    assert {first.completion_tokens, last.completion_tokens} == {LONGEST}


def test_a_batch_that_does_not_fit_is_halved(folder, monkeypatch):
    backend = TransformersLocal(str(folder), device="cpu", max_new_tokens=LONGEST, batch_size=4, temperature=0.0)
    backend._load()
    images = [Image.open(io.BytesIO(request.read())).convert("RGB") for request in requests()]
    whole = backend._generate_batch(requests(), images)
    generate, sizes = backend._generate_batch, []

    def limited(asked, images):
        sizes.append(len(asked))
        if len(asked) > 1:
            raise torch.OutOfMemoryError("too much")
        return generate(asked, images)

    monkeypatch.setattr(backend, "_generate_batch", limited)
    assert [answer.text for answer in backend._generate(requests(), images)] == [answer.text for answer in whole]
    assert sizes == [4, 2, 1, 1, 1, 1, 1]


def test_what_cannot_be_loaded_is_said(folder, tmp_path):
    with pytest.raises(BackendError, match="cannot be loaded"):
        ask(tmp_path, [])
    for path in folder.iterdir():
        if "chat_template" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(BackendError, match="no chat template"):
        ask(tmp_path, [])
    with pytest.raises(ValueError, match="dtype='half' must be one of"):
        TransformersLocal("x", dtype="half")
    with pytest.raises(ValueError, match="batch_size=0"):
        TransformersLocal("x", batch_size=0)
