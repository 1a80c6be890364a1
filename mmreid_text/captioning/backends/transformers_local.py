"""Captions by a vision-language model in this process, through transformers."""

import asyncio
import contextlib
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from typing_extensions import Self

from mmreid_text.captioning.backends.base import (
    BackendError,
    CaptionAnswer,
    CaptionBackend,
    CaptionRequest,
    UnreadableImage,
)
from mmreid_text.registry import CAPTION_BACKENDS

_DTYPES = ("auto", "bfloat16", "float16", "float32")


class _NoInput(Exception):
    """The processor refuses a request."""


@CAPTION_BACKENDS.register_module()
class TransformersLocal(CaptionBackend):
    """Any model of ``AutoModelForImageTextToText`` with its ``AutoProcessor`` and chat template, in batches.

    Requests that wait are put together into batches of up to ``batch_size``, whatever their instruction. A batch that
    does not fit into the GPU's memory is halved, and later ones stay that small. An image that the processor refuses,
    as one of extreme proportions, fails alone.

    Args:
        model: Folder or Hugging Face name.
        batch_size: Most requests of a batch.
        max_new_tokens: Longest answer; one that reaches it is rejected as 'cut'.
        temperature: Of sampling, 0 takes the likeliest token each time. Sampling starts from the seed of the batch's
            first request, so an answer depends on which requests met in a batch.
        device: 'auto' (the GPU if there is one), 'cpu', 'cuda', 'cuda:1', ...
        dtype: 'auto' (bfloat16 on a GPU, float32 on a CPU), 'bfloat16', 'float16' or 'float32'.
        revision: Commit or tag of a Hugging Face name.

    Raises:
        ValueError: A number or the dtype is out of range.
        BackendError: The model cannot be loaded, or its processor has no chat template.

    Config::

        dict(type='TransformersLocal', model='Qwen/Qwen2.5-VL-3B-Instruct', batch_size=16)
    """

    def __init__(
        self,
        model: str,
        batch_size: int = 8,
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
    ) -> None:
        if batch_size < 1 or max_new_tokens < 1 or temperature < 0:
            raise ValueError(
                f"TransformersLocal: batch_size={batch_size} and max_new_tokens={max_new_tokens} must be at least 1, "
                f"temperature={temperature} at least 0."
            )
        if dtype not in _DTYPES:
            raise ValueError(f"TransformersLocal: dtype={dtype!r} must be one of {', '.join(_DTYPES)}.")
        self.name, self.revision = model, revision
        self.batch_size, self.max_new_tokens, self.temperature = batch_size, max_new_tokens, temperature
        self.device, self.dtype = device, dtype
        self.concurrency = 2 * batch_size  # the next batch waits while one is generated
        self.model: Any = None
        self.processor: Any = None
        self._waiting: asyncio.Queue[tuple[CaptionRequest, Any, asyncio.Future[CaptionAnswer]]]
        self._thread = ThreadPoolExecutor(1, "generate")

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "type": "TransformersLocal",
            "model": self.name,
            "revision": self.revision,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
        }

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        self._waiting = asyncio.Queue()
        self._batches = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._batches
        self._thread.shutdown(wait=True)
        self.model = self.processor = None

    async def caption(self, request: CaptionRequest) -> CaptionAnswer:
        image = _decoded(request.image_name, await request.image())
        future: asyncio.Future[CaptionAnswer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((request, image, future))
        return await future

    async def _run(self) -> None:
        """Batches, one after the other; the error of one goes to those who wait for it."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            await asyncio.sleep(0)
            while len(batch) < self.batch_size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            requests, images = [request for request, _, _ in batch], [image for _, image, _ in batch]
            try:
                answers = await loop.run_in_executor(self._thread, self._generate, requests, images)
            except Exception as error:
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, future), answer in zip(batch, answers):
                if not future.done():
                    future.set_result(answer)

    def _load(self) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        if self.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.dtype == "auto":
            self.dtype = "float32" if self.device == "cpu" else "bfloat16"
        try:
            self.processor = AutoProcessor.from_pretrained(self.name, revision=self.revision)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                self.name, revision=self.revision, dtype=getattr(torch, self.dtype)
            )
        except (OSError, ValueError, KeyError) as error:
            raise BackendError(
                f"Model {self.name!r} cannot be loaded as a vision-language model: {error}. Name a folder with model "
                "and processor, or a model of the Hugging Face hub that AutoModelForImageTextToText knows."
            ) from error
        if not getattr(self.processor, "chat_template", None):
            raise BackendError(f"The processor of {self.name!r} has no chat template; take an instruction-tuned model.")
        self.processor.tokenizer.padding_side = "left"  # answers are continued on the right
        self.model = model.to(self.device).eval()

    def _generate(self, requests: Sequence[CaptionRequest], images: Sequence[Any]) -> list[CaptionAnswer]:
        import torch

        size = min(self.batch_size, len(requests))
        answers: list[CaptionAnswer] = []
        while len(answers) < len(requests):
            part = slice(len(answers), len(answers) + size)
            try:
                answers += self._generate_batch(requests[part], images[part])
            except _NoInput as error:
                if size == 1:
                    answers.append(CaptionAnswer(error="request", detail=str(error)))
                size = 1  # which one it is shows when they go alone
            except torch.OutOfMemoryError:
                if size == 1:
                    raise BackendError(
                        f"One image does not fit into the memory of {self.device} beside {self.name!r}: take a larger "
                        "GPU or a smaller model, or store the images smaller (tools/pack_images.py --resize)."
                    ) from None
                torch.cuda.empty_cache()
                size = self.batch_size = size // 2
        return answers

    def _generate_batch(self, requests: Sequence[CaptionRequest], images: Sequence[Any]) -> list[CaptionAnswer]:
        import torch

        chats = [
            [
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "text", "text": request.instruction}],
                }
            ]
            for request in requests
        ]
        text = self.processor.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
        try:
            inputs = self.processor(
                text=text,
                images=[[image] for image in images],
                padding=True,
                add_special_tokens=False,  # the template writes them
                return_tensors="pt",
            )
        except ValueError as error:
            raise _NoInput(f"the processor refuses {requests[0].image_name}: {error}") from error
        inputs = inputs.to(self.device, dtype=self.model.dtype)
        torch.manual_seed(requests[0].sampling_seed())
        sampling = {"do_sample": True, "temperature": self.temperature} if self.temperature else {"do_sample": False}
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, max_new_tokens=self.max_new_tokens, **sampling)
        written = tokens[:, inputs["input_ids"].shape[1] :].cpu()  # (B, T)
        texts = self.processor.batch_decode(written, skip_special_tokens=True)
        prompts = inputs["attention_mask"].sum(1).tolist()
        return [self._answer(text.strip(), prompt, row.tolist()) for text, prompt, row in zip(texts, prompts, written)]

    def _answer(self, text: str, prompt: int, tokens: list[int]) -> CaptionAnswer:
        ends = self.model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, (list, tuple)) else {ends}
        length = next((i + 1 for i, token in enumerate(tokens) if token in ends), None)
        if length is None:
            return CaptionAnswer(text, prompt, len(tokens), "cut", "the answer reached max_new_tokens")
        if not text:
            return CaptionAnswer("", prompt, length, "empty", "the answer holds no text")
        return CaptionAnswer(text, prompt, length)


def _decoded(name: str, content: bytes) -> Any:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(content)).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{name} is no image or is cut short ({error})") from error
