"""Captions by any server that speaks OpenAI's chat protocol: vLLM, SGLang, llama.cpp, hosted ones."""

import asyncio
import base64
import email.utils
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from typing_extensions import Self

from mmreid_text.captioning.backends.base import (
    ANSWERED,
    BackendError,
    CaptionAnswer,
    CaptionBackend,
    CaptionRequest,
)
from mmreid_text.captioning.backends.endpoints import Endpoint, EndpointPool, Pace
from mmreid_text.registry import CAPTION_BACKENDS

if TYPE_CHECKING:
    import aiohttp

_LARGEST_ANSWER = 4 * 2**20
_LONGEST_PAUSE = 600.0
_MOST_TOKENS = 2**31
_MOST_REFUSED = 32
"""Refused requests, before any has passed, that are the config's fault and not the images'."""
_HOLD = 5.0
"""Seconds for which a refusal waits to learn whose fault it is."""
_SHORTEST_KEY = 8
"""Shorter ones are stand-ins for servers that ask for none, such as EMPTY, and may stand in a caption by chance."""
_AGAIN = frozenset({408, 409, 425, 429})
_SETUP = {
    401: "give the server's API key in the environment variable that `api_key_env` names",
    403: "give an API key that may use this model in the environment variable that `api_key_env` names",
    404: "check `model` and the endpoint, which mostly ends in /v1",
}
_MAGIC = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"GIF8": "gif", b"BM": "bmp", b"RIFF": "webp"}


class _TryAgain(Exception):
    """A failure that may pass. ``wait``: seconds that the server asks for."""

    def __init__(self, kind: str, detail: str, wait: float | None = None) -> None:
        super().__init__(detail)
        self.kind, self.wait = kind, wait


@CAPTION_BACKENDS.register_module()
class OpenAIServer(CaptionBackend):
    """Asks servers over HTTP, ``POST <endpoint>/chat/completions`` with the image as a data URI.

    Requests go to the endpoint with the fewest under way. A failed one (no connection, time-out, HTTP 408, 409, 425,
    5xx, an answer that is no JSON of the protocol) is sent again, to whichever endpoint is then free, up to
    ``max_tries`` times with exponentially growing, jittered waits. An endpoint that failed three times in a row rests,
    and is then tried by one request at a time. HTTP 429 pauses the endpoint for the ``Retry-After`` that it states and
    does not count as a try; a caption that gets nothing else for ``give_up_after`` seconds has failed. When nothing at
    all has succeeded for so long, or a server refuses the key or does not know the model (HTTP 401, 403, 404, a
    redirect), the job stops. So it does when the first 32 requests are all refused (other HTTP 4xx); once one has
    passed, a refusal is for that image alone.

    The key is read from the environment; it is cut out of whatever a server sends back.

    Args:
        endpoints: Base URLs, such as ``http://node1:8000/v1``; a string may hold several, parted by commas.
        model: The model's name on the servers.
        api_key_env: Environment variable that holds the API key; None sends none.
        max_tokens: Longest answer, tokens; one that reaches it is rejected as 'cut'.
        temperature: Of sampling.
        extra: Further fields of the request's JSON body; None as a value leaves a field out (``dict(seed=None)`` for
            servers that do not know it).
        concurrency: Requests under way at each endpoint.
        requests_per_minute: Most requests of this process, over all endpoints; None for no limit.
        connect_timeout: Seconds for a connection to be made.
        read_timeout: Seconds for an answer.
        max_tries: Times that one caption is asked for before its failure is recorded.
        backoff: First wait after a failure, seconds.
        max_backoff: Longest wait, seconds.
        give_up_after: Seconds without any success after which the job stops.

    Raises:
        ValueError: An endpoint is no http(s) URL or has a password in it, a number is out of range, or the environment
            variable is not set.

    Config::

        dict(type='OpenAIServer', endpoints=['http://node1:8000/v1', 'http://node2:8000/v1'],
             model='Qwen/Qwen2.5-VL-7B-Instruct')
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        model: str,
        api_key_env: str | None = None,
        max_tokens: int = 256,
        temperature: float = 0.7,
        extra: Mapping[str, Any] | None = None,
        concurrency: int = 64,
        requests_per_minute: float | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float = 300.0,
        max_tries: int = 6,
        backoff: float = 1.0,
        max_backoff: float = 60.0,
        give_up_after: float = 600.0,
    ) -> None:
        urls = [url.strip() for url in (endpoints.split(",") if isinstance(endpoints, str) else endpoints)]
        for url in urls:
            _check_url(url)
        if not urls:
            raise ValueError("endpoints is empty: name at least one, such as 'http://localhost:8000/v1'.")
        positive = dict(
            max_tokens=max_tokens,
            concurrency=concurrency,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_tries=max_tries,
            backoff=backoff,
            max_backoff=max_backoff,
            give_up_after=give_up_after,
        )
        if requests_per_minute is not None:
            positive["requests_per_minute"] = requests_per_minute
        for key, value in positive.items():
            if not value > 0:
                raise ValueError(f"OpenAIServer: {key}={value} must be positive.")
        self._key = _read_key(api_key_env)
        self.urls = [url.rstrip("/") for url in urls]
        self.concurrency = concurrency * len(urls)
        self.max_tries, self.give_up_after = max_tries, give_up_after
        self._extra = dict(extra or {})
        self._fields = {"model": model, "max_tokens": max_tokens, "temperature": temperature, **self._extra}
        self._pool = EndpointPool(self.urls, concurrency, backoff, max_backoff)
        self._pace = Pace(requests_per_minute)
        self._timeouts = connect_timeout, read_timeout
        self._session: aiohttp.ClientSession
        self._refused = 0
        self._passed: asyncio.Event

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"type": "OpenAIServer", **self._fields}

    async def __aenter__(self) -> Self:
        try:
            import aiohttp
        except ModuleNotFoundError:
            raise BackendError(
                "OpenAIServer needs aiohttp: pip install 'mmreid_text[captioning]', or pip install aiohttp."
            ) from None
        self._passed = asyncio.Event()
        connect, read = self._timeouts
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=connect + read, sock_connect=connect, sock_read=read),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def caption(self, request: CaptionRequest) -> CaptionAnswer:
        answer = await self._ask(self._body(request, await request.image()))
        if answer.error != "request":
            self._passed.set()
        elif not self._passed.is_set():
            await self._hold(answer)
        return answer

    async def _hold(self, answer: CaptionAnswer) -> None:
        """Keep a refusal back until a request passes; when none does, the job stops before it fails every image."""
        self._refused += 1
        if self._refused >= _MOST_REFUSED:
            raise BackendError(
                f"{answer.detail}. So were all {self._refused} requests before it, so it is not for the images: check "
                "`extra`, `max_tokens`, the instruction's length and whether the model reads images, and start the "
                "same command again."
            )
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._passed.wait(), _HOLD)

    async def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Answer to a conversation without images, '' if the model says nothing; one cut at ``max_tokens`` counts.

        Args:
            messages: ``{"role": "user" | "assistant" | "system", "content": text}`` each, the oldest first.

        Raises:
            BackendError: No answer within ``max_tries``, or the server refuses the request.
        """
        fields = {"messages": list(messages), **self._fields}
        body = json.dumps({key: value for key, value in fields.items() if value is not None}).encode()
        answer = await self._ask(body)
        if answer.error not in (None, *ANSWERED):
            remedy = "Mend that" if answer.error == "request" else "Start the same command again"
            raise BackendError(f"{answer.error}: {answer.detail}. {remedy} to go on.")
        return answer.text

    async def _ask(self, body: bytes) -> CaptionAnswer:
        failures, tries, limited_since = 0, 0, None
        while True:
            async with self._pool.take() as endpoint:
                await self._pace.wait()
                try:
                    answer = await self._post(endpoint, body)
                except _TryAgain as failure:
                    problem = failure
                    self._note(endpoint, failure)
                else:
                    self._pool.succeeded(endpoint)
                    return answer
            failures, now = failures + 1, time.monotonic()
            if problem.kind == "limited":
                limited_since = limited_since or now
                given_up = now - limited_since > self.give_up_after
            else:
                tries += 1
                given_up = tries >= self.max_tries
            if given_up:
                return CaptionAnswer(error=problem.kind, detail=str(problem))
            if not problem.wait:
                await asyncio.sleep(self._pool.wait(failures - 1))

    def _note(self, endpoint: Endpoint, failure: _TryAgain) -> None:
        """Let a failure bear on its endpoint; stop the job when all have been failing for too long."""
        if failure.wait is not None:
            self._pool.rest(endpoint, failure.wait)
        if failure.kind == "limited":
            self._pool.refused()
        else:
            self._pool.failed(endpoint)
        if self._pool.outage() > self.give_up_after:
            raise BackendError(
                f"No request to {', '.join(self.urls)} has succeeded for {self._pool.outage():.0f} s; the last "
                f"failure: {failure}. Mend the servers, or wait for their limits, and start the same command again: it "
                "goes on from what is done."
            )

    def _body(self, request: CaptionRequest, image: bytes) -> bytes:
        kind = next((kind for magic, kind in _MAGIC.items() if image.startswith(magic)), "jpeg")
        url = f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": request.instruction}]
        fields = {"messages": [{"role": "user", "content": content}], "seed": request.sampling_seed(), **self._fields}
        return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()

    async def _post(self, endpoint: Endpoint, body: bytes) -> CaptionAnswer:
        import aiohttp

        try:
            async with self._session.post(
                f"{endpoint.url}/chat/completions",
                data=body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,  # the key is for this server alone
            ) as response:
                content = await _read(response)
                status, pause = response.status, response.headers.get("Retry-After")
        except asyncio.TimeoutError:
            raise _TryAgain("timeout", f"{endpoint.url} did not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = self._safe(str(error)) or type(error).__name__
            raise _TryAgain("connection", f"{endpoint.url}: {reason}") from None
        if status == 200:
            return self._parse(endpoint, content)
        detail = f"{endpoint.url} answered HTTP {status}: {self._safe(content.decode('utf-8', 'replace'))}"
        if status in _AGAIN or status >= 500:
            kind = "limited" if status == 429 else "server"
            raise _TryAgain(kind, detail, _seconds(pause) if status in (429, 503) else None)
        if status in _SETUP or 300 <= status < 400:
            remedy = _SETUP.get(status, "name the URL that it redirects to as the endpoint")
            raise BackendError(f"{detail}. Please {remedy}.")
        return CaptionAnswer(error="request", detail=detail)

    def _parse(self, endpoint: Endpoint, content: bytes) -> CaptionAnswer:
        try:
            answer = json.loads(content)
            choice = answer["choices"][0]
            message = choice["message"]
            text = message.get("content") or ""
            usage = answer.get("usage") or {}
            tokens = _number(usage.get("prompt_tokens")), _number(usage.get("completion_tokens"))
            if not isinstance(text, str):
                raise TypeError("the content is no text")
            refusal, reason = message.get("refusal"), choice.get("finish_reason")
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
            detail = f"{endpoint.url} answered what is no chat completion ({type(error).__name__}): "
            raise _TryAgain("malformed", detail + self._safe(content.decode("utf-8", "replace"))) from None
        text = self._hide_key(text)
        if refusal or reason == "content_filter":
            return CaptionAnswer(text, *tokens, "refused", self._safe(str(refusal or "stopped by the content filter")))
        if not text.strip():
            return CaptionAnswer("", *tokens, "empty", "the answer holds no text")
        if reason == "length":
            return CaptionAnswer(text, *tokens, "cut", "the answer reached max_tokens")
        return CaptionAnswer(text, *tokens)

    def _hide_key(self, text: str) -> str:
        secret = self._key is not None and len(self._key) >= _SHORTEST_KEY
        return text.replace(self._key or "", "***") if secret else text

    def _safe(self, text: str) -> str:
        """A server's words for a message: one line of at most 200 characters, without the key."""
        text = " ".join(self._hide_key(text).split())
        return text if len(text) <= 200 else f"{text[:197]}..."


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:  # not shown: it may hold a password
        raise ValueError(
            f"The endpoint at {parts.hostname} has a user, password or query in its URL, which would stand in configs "
            "and logs. Put the key into an environment variable and name that as api_key_env."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"endpoint {url!r} must be a URL such as 'http://localhost:8000/v1'.")


def _read_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not variable.isidentifier() or variable != variable.upper():
        raise ValueError(
            "api_key_env must name an environment variable in capitals, such as 'OPENAI_API_KEY'; the key itself is "
            "not to stand in a config."
        )
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(
            f"The environment variable {variable}, which api_key_env names, is not set: put the key there."
        )
    if not (key.isascii() and key.isprintable()):
        raise ValueError(f"The environment variable {variable} holds characters that no API key has; set it anew.")
    return key


def _number(tokens: Any) -> int:
    return min(int(tokens or 0), _MOST_TOKENS)


async def _read(response: "aiohttp.ClientResponse") -> bytes:
    content = bytearray()
    async for part in response.content.iter_chunked(65_536):
        content += part
        if len(content) > _LARGEST_ANSWER:
            raise _TryAgain("malformed", f"{response.url.origin()} answered more than {_LARGEST_ANSWER:,} bytes")
    return bytes(content)


def _seconds(pause: str | None) -> float | None:
    """``Retry-After``, seconds or a date, as seconds from now; None where there is none, or none that can be read."""
    if not pause:
        return None
    try:
        seconds = float(pause)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(pause).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), _LONGEST_PAUSE) if seconds == seconds else None
