"""A server of OpenAI's chat protocol that misbehaves on purpose, in a process of its own.

An image is the text ``image <number>`` after a JPEG's first bytes; the caption tells its number, and which kind of
instruction was asked. What a request meets is decided by a hash of (seed, number, kind, how many came before), so a
fault does not come again for ever: only pictures named in ``refused`` are refused each time, those in ``bad`` are
answered HTTP 400.
"""

import asyncio
import base64
import hashlib
import json
import multiprocessing
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

MAGIC = b"\xff\xd8\xff"
FAULTS = (
    "delay",
    "drop",
    "cut short",
    "429",
    "500",
    "malformed",
    "no choices",
    "empty",
    "refused",
    "brackets",
    "length",
)


@dataclass
class Behaviour:
    """What a server does.

    Attributes:
        share: Of the requests that meet a fault.
        faults: Which, equally often.
        refused: Numbers of the images that it never describes.
        bad: Numbers of the images that it cannot read.
        status: Answer everything with this HTTP status.
        key: API key that it asks for.
        echo: Whether it tells the key that it was asked with, in all that it says but good captions.
        delay: Seconds that a fault 'delay' takes.
        retry_after: Header of 'HTTP 429'.
        down_for: Requests at the start to which it drops the connection.
    """

    share: float = 0.0
    faults: tuple[str, ...] = FAULTS
    refused: frozenset[int] = frozenset()
    bad: frozenset[int] = frozenset()
    status: int = 200
    key: str | None = None
    echo: bool = False
    delay: float = 0.3
    retry_after: str | None = "0.05"
    down_for: int = 0
    seed: int = 0


@dataclass
class Running:
    """A server under way."""

    port: int
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, int]:
        """How many requests met what; 'captions' counts good answers, 'busiest' the most requests at a time."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats") as answer:
            return json.load(answer)


@contextmanager
def caption_server(behaviour: Behaviour) -> Iterator[Running]:
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(behaviour, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Running(ours.recv())
    finally:
        process.kill()
        process.join()


def write_images(folder: Path, count: int) -> None:
    """Images that the server can read."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:05d}.jpg").write_bytes(MAGIC + f"image {number}".encode())


def caption_of(number: int, kind: str) -> str:
    return f"The person of picture number {number} is wearing a {kind} coat and walks in black boots."


def _serve(behaviour: Behaviour, ready: Connection) -> None:
    asyncio.run(_Server(behaviour).run(ready))


class _Server:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.seen: Counter[tuple[int, str]] = Counter()
        self.stats: Counter[str] = Counter()
        self.times: list[float] = []
        self.busy = 0

    async def run(self, ready: Connection) -> None:
        from aiohttp import web

        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/chat/completions", self.handle)
        app.router.add_get("/stats", self.tell)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ready.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    async def tell(self, request):
        from aiohttp import web

        span = self.times[-1] - self.times[0] if len(self.times) > 1 else 0.0
        return web.json_response({**self.stats, "milliseconds": round(1000 * span)})

    async def handle(self, request):
        self.busy += 1
        self.stats["busiest"] = max(self.stats["busiest"], self.busy)
        self.stats["requests"] += 1
        self.times.append(time.monotonic())
        try:
            return await self._handle(request)
        finally:
            self.busy -= 1

    async def _handle(self, request):
        from aiohttp import web

        b = self.behaviour
        said = f" (asked with {request.headers.get('Authorization')})" if b.echo else ""
        if b.key and request.headers.get("Authorization") != f"Bearer {b.key}":
            return web.json_response({"error": f"wrong key {request.headers.get('Authorization')}"}, status=401)
        if b.status != 200:
            return web.json_response({"error": f"no{said}"}, status=b.status)
        if self.stats["requests"] <= b.down_for:
            request.transport.close()
            return web.Response()
        number, kind = _asked(json.loads(await request.read()))
        count = self.seen[number, kind]
        self.seen[number, kind] += 1
        if number in b.bad:
            return web.json_response({"error": f"cannot read the image{said}"}, status=400)
        fault = "refused" if number in b.refused else self._fault(number, kind, count)
        self.stats[fault or "none"] += 1
        return await self._answer(request, fault, number, kind, said)

    def _fault(self, number: int, kind: str, count: int) -> str | None:
        digest = hashlib.sha256(f"{self.behaviour.seed} {number} {kind} {count}".encode()).digest()
        if int.from_bytes(digest[:4], "big") >= self.behaviour.share * 2**32:
            return None
        return self.behaviour.faults[digest[4] % len(self.behaviour.faults)]

    async def _answer(self, request, fault: str | None, number: int, kind: str, said: str):
        from aiohttp import web

        text, reason = caption_of(number, kind) + (said if fault else ""), "stop"
        if fault == "delay":
            await asyncio.sleep(self.behaviour.delay)
        elif fault == "drop":
            request.transport.close()
            return web.Response()
        elif fault == "429":
            pause = self.behaviour.retry_after
            return web.Response(status=429, text=f"slower{said}", headers={"Retry-After": pause} if pause else {})
        elif fault == "500":
            return web.Response(status=500, text=f"oh{said}")
        elif fault == "malformed":
            return web.Response(text=f'{{"choices": [{{"mess{said}', content_type="application/json")
        elif fault == "no choices":
            return web.json_response({"choices": [], "error": said})
        elif fault == "refused":
            text = f"I'm sorry, but I cannot describe people.{said}"
        elif fault == "empty":
            text = ""
        elif fault == "brackets":
            text = f"The person of picture {number} wears [clothing].{said}"
        elif fault == "length":
            reason = "length"
        if fault in (None, "delay"):
            self.stats["captions"] += 1
        body = {
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20},
        }
        if fault == "cut short":
            response = web.StreamResponse(headers={"Content-Length": "5000"})
            await response.prepare(request)
            await response.write(json.dumps(body).encode())
            request.transport.close()
            return response
        return web.json_response(body)


def _asked(body: dict) -> tuple[int, str]:
    """Number of the image, and 'dynamic' or 'static'."""
    (message,) = body["messages"]
    image, text = message["content"]
    kind, _, data = image["image_url"]["url"].partition(";base64,")
    assert kind == "data:image/jpeg", kind
    content = base64.b64decode(data, validate=True)
    assert content.startswith(MAGIC), content[:9]
    return int(content[len(MAGIC) :].split()[1]), "dynamic" if "template" in text["text"] else "static"
