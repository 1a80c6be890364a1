"""What a captioning job costs beside the model: CPU per caption against an instant server, memory per listed image."""

import asyncio
import base64
import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import numpy as np
from aiohttp import web
from benchmarks.common import Job, Row, interleaved, peak_memory

from mmreid_text.captioning.image_sources import ImageSource
from mmreid_text.captioning.job import CaptionJob
from mmreid_text.captioning.shards import JobFolder, list_images
from mmreid_text.captioning.worker import CaptionWorker
from mmreid_text.registry import IMAGE_SOURCES

IMAGES = 1000
IMAGE_BYTES = 27_000
CONCURRENCY = 64
LISTED = (10_000, 1_000_000)


@IMAGE_SOURCES.register_module()
class NumberedImages(ImageSource):
    """So many images of the same content."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.content = b"\xff\xd8\xff" + np.random.default_rng(0).bytes(IMAGE_BYTES)

    def names(self) -> Iterator[str]:
        return (f"{i % 1000:03d}/{i:07d}.jpg" for i in range(self.count))

    def read(self, name: str) -> bytes:
        return self.content


def run(rounds: int) -> list[Row]:
    """Rows of this part."""
    with instant_server() as url, tempfile.TemporaryDirectory() as folder:
        runs = iter(range(1_000_000))
        jobs: dict[str, Job] = {
            "ours": lambda: caption_all(Path(folder) / str(next(runs)), url),
            "reference": lambda: asyncio.run(post_all(url)),
        }
        seconds = interleaved(jobs, rounds)
    rate = 2 * IMAGES / seconds["ours"]
    small, large = (peak_memory("caption", "ours", str(count)) for count in LISTED)
    plain = peak_memory("caption", "plain", str(LISTED[1]))
    requests = f"{2 * IMAGES:,} requests of {IMAGE_BYTES / 1000:.0f} kB images, {rate:,.0f} requests per CPU second"
    listing = f"{LISTED[0]:,} images: {small:.0f} MB; listing, claiming and reading the names of every shard"
    return [
        Row("captioning, instant server", "bare aiohttp", seconds["ours"], seconds["reference"], remark=requests),
        Row("listing 1 M images", "list of names", *list_seconds(rounds), large, plain, remark=listing),
    ]


def caption_all(out: Path, url: str) -> None:
    """A whole job: list, claim, read, ask, clean, journal, finish shards."""
    backend = dict(type="OpenAIServer", endpoints=url, model="instant", concurrency=CONCURRENCY)
    sources = [
        dict(name="Ts", backend=backend, instruction="paper-static"),
        dict(name="Td", backend=backend, instruction="paper-dynamic", templates="bank"),
    ]
    cfg = dict(images=dict(type="NumberedImages", count=IMAGES), sources=sources, cleaning=dict(max_repeats=None))
    job = CaptionJob.from_dict(cfg)
    folder = job.open(out)
    list_images(folder.list_path, job.build_images())
    asyncio.run(CaptionWorker(job, folder).run())
    counts = sum((folder.counts_of(shard)["ok"] for shard in folder.finished()), 0)
    assert counts == 2 * IMAGES, f"{counts} of {2 * IMAGES} captions"


async def post_all(url: str) -> None:
    """The same requests without any of it."""
    content, left = NumberedImages(1).content, 2 * IMAGES
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def post() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                data = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
                parts = [{"type": "image_url", "image_url": {"url": data}}, {"type": "text", "text": "Describe."}]
                body = {"model": "instant", "messages": [{"role": "user", "content": parts}]}
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    assert (await response.json())["choices"]

        await asyncio.gather(*(post() for _ in range(CONCURRENCY)))


def memory_job(name: str, argument: str) -> Job:
    count = int(argument)
    list_and_claim(100)
    return (lambda: list_and_claim(count)) if name == "ours" else (lambda: plain_list(count))


def list_and_claim(count: int) -> None:
    """List so many images, then look through the shards as a worker does, without captioning."""
    with tempfile.TemporaryDirectory() as out:
        folder = JobFolder(Path(out), 256, 120)
        list_images(folder.list_path, NumberedImages(count))
        total = sum(len(folder.names_of(shard)) for shard in range(folder.num_shards))
        assert total == count
        assert folder.claim_next() is not None


def plain_list(count: int) -> None:
    assert len(sorted(NumberedImages(count).names())) == count


def list_seconds(rounds: int) -> tuple[float, float]:
    jobs: dict[str, Job] = {"ours": lambda: list_and_claim(LISTED[1]), "plain": lambda: plain_list(LISTED[1])}
    seconds = interleaved(jobs, min(rounds, 1))
    return seconds["ours"], seconds["plain"]


@contextmanager
def instant_server() -> Iterator[str]:
    """An endpoint in a process of its own that answers at once."""
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        process.kill()
        process.join()


def _serve(ready: Connection) -> None:
    text = "A woman with long brown hair is wearing a red coat over blue jeans and carries a black handbag."
    answer = {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 25},
    }
    body = json.dumps(answer).encode()

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    async def serve() -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/chat/completions", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ready.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())
