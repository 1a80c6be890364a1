"""What a captioner is to a job: something that answers requests, many at a time."""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from typing_extensions import Self

ANSWERED = ("empty", "refused", "cut")
"""Errors that are the model's answer, so that asking once more may mend them; the others end a caption."""


class BackendError(RuntimeError):
    """No request can succeed until a person mends something: the job stops, and goes on when started again."""


class UnreadableImage(Exception):
    """The image of one request cannot be read."""


@dataclass(frozen=True)
class CaptionRequest:
    """One caption to write.

    Attributes:
        image_name: Of the image, as the job lists it.
        read: Gives the image file's content; may raise OSError.
        instruction: What to ask, its template filled in.
        template: That template, None under a static instruction.
        source: Caption source, such as ``Td-qwen``.
        seed: Seed of the job.
        attempt: 0 for the first time, then 1, 2, ...
    """

    image_name: str
    read: Callable[[], bytes]
    instruction: str
    template: str | None
    source: str
    seed: int
    attempt: int

    async def image(self) -> bytes:
        """Content of the image file, read on another thread.

        Raises:
            UnreadableImage: It cannot be read.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self.read)
        except OSError as error:
            raise UnreadableImage(str(error)) from error

    def sampling_seed(self) -> int:
        """31 bits, a hash of seed, image, source and attempt: what sampling starts from."""
        facts = "\0".join((str(self.seed), self.image_name, self.source, str(self.attempt)))
        digest = hashlib.blake2b(facts.encode("utf-8", "surrogateescape"), digest_size=4).digest()
        return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class CaptionAnswer:
    """What came of a request.

    Attributes:
        text: The answer, as it came.
        prompt_tokens: Tokens read, as far as the back end tells.
        completion_tokens: Tokens written.
        error: None, or in one word why there is no caption: 'empty', 'refused', 'cut' (at the token limit), 'timeout',
            'connection', 'server' (HTTP 5xx), 'limited' (HTTP 429), 'malformed', 'request' (HTTP 4xx), 'image'.
        detail: The error in a sentence, free of secrets.
    """

    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    detail: str = ""


class CaptionBackend(ABC):
    """Base of the back ends; one object serves one process, between ``async with`` and its end.

    Attributes:
        concurrency: Requests that the job keeps under way at a time.
    """

    concurrency: int = 1

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What the captions depend on, in JSON types: a job is not gone on with by another model."""

    @abstractmethod
    async def caption(self, request: CaptionRequest) -> CaptionAnswer:
        """Answer one request.

        Raises:
            UnreadableImage: The request's image cannot be read.
            BackendError: The job must stop.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
