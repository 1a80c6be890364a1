"""A process of a job: what it asks, what it does not ask again, and how two of them share shards."""

import asyncio
import os
import signal
import time
from collections import Counter
from dataclasses import replace

import pytest
from caption_runs import rows_of, wait_until, write_config
from caption_server import Behaviour, caption_of, caption_server, write_images

from mmreid_text.captioning.backends import BackendError, CaptionAnswer, CaptionBackend
from mmreid_text.captioning.job import CaptionJob
from mmreid_text.captioning.shards import JobFolder, list_images
from mmreid_text.captioning.worker import CaptionWorker, run_worker
from mmreid_text.registry import CAPTION_BACKENDS

ASKED: Counter = Counter()
BUSY: dict[int, int] = {}


@CAPTION_BACKENDS.register_module()
class Scripted(CaptionBackend):
    """Answers as its ``script`` says: one entry per attempt, the last one for all further ones."""

    def __init__(self, script, concurrency=4, delay=0.0):
        self.script, self.concurrency, self.delay = script, concurrency, delay
        self.busy = 0

    @property
    def facts(self):
        return {"type": "Scripted"}

    async def caption(self, request):
        ASKED[request.source, request.image_name, request.attempt] += 1
        self.busy += 1
        BUSY[id(self)] = max(self.busy, BUSY.get(id(self), 0))
        await asyncio.sleep(self.delay)
        self.busy -= 1
        word = self.script[min(request.attempt, len(self.script) - 1)]
        if word == "stop":
            raise BackendError("the servers are on strike")
        if word in ("timeout", "empty", "refused", "request"):
            return CaptionAnswer(error=word, detail=f"{word}!", prompt_tokens=3)
        return CaptionAnswer(word.replace("#", request.image_name.partition(".")[0]), 3, 2)


def made(tmp_path, *sources, images=10, **options):
    """A job in a folder with its images listed; sources are (name, instruction, script)."""
    ASKED.clear()
    BUSY.clear()
    if not (tmp_path / "images").exists():
        write_images(tmp_path / "images", images)
    cfg = dict(images=dict(type="ImageFolder", root=str(tmp_path / "images")), shard_size=4, **options)
    cfg["sources"] = []
    for name, instruction, *script in sources:
        templates = dict(templates="bank") if instruction == "dynamic" else {}
        backend = dict(type="Scripted", script=script)
        cfg["sources"].append(dict(name=name, backend=backend, instruction=instruction, **templates))
    job = CaptionJob.from_dict(cfg)
    folder = job.open(tmp_path / "out")
    list_images(folder.list_path, job.build_images())
    return job, folder


def work(job, folder):
    asyncio.run(CaptionWorker(job, folder).run())
    return {key: row for key, (row,) in rows_of(folder.out).items()}


def test_rejected_captions_are_asked_for_again_and_then_replaced(tmp_path):
    static = ("Ts", "static", "", "The man of picture # is in red.")
    other = ("Ts-b", "static", "The man of picture # is in blue.")
    dynamic = ("Td", "dynamic", "A man in [clothing].", "refused", "I'm sorry, but I cannot do that.")
    rows = work(*made(tmp_path, static, other, dynamic, re_asks=2))
    chosen = set()
    for number in range(10):
        image = f"{number:05d}.jpg"
        told = [rows[image, source] for source in ("Ts", "Ts-b", "Td")]
        assert [row["status"] for row in told] == ["ok", "ok", "replaced"]
        assert [row["attempts"] for row in told] == [2, 1, 3]
        assert told[2]["caption"] in (told[0]["caption"], told[1]["caption"])
        chosen.add(told[2]["caption"][-5:])
        assert [answer["rule"] for answer in told[2]["rejected"]] == ["brackets", "refused", "refusal"]
        assert told[2]["rejected"][0]["text"] == "A man in [clothing]."
        assert told[2]["prompt_tokens"] == 9
        assert told[0]["template"] == -1 < told[2]["template"]
    assert len(chosen) == 2
    assert set(ASKED.values()) == {1}


def test_without_a_static_caption_rejection_is_failure(tmp_path):
    rows = work(*made(tmp_path, ("Td", "dynamic", "empty"), re_asks=1))
    assert {(row["status"], row["reason"], row["caption"], row["attempts"]) for row in rows.values()} == {
        ("failed", "empty", "", 2)
    }


def test_a_servers_failure_is_neither_asked_again_nor_replaced(tmp_path):
    rows = work(*made(tmp_path, ("Ts", "static", "The man of picture #."), ("Td", "dynamic", "timeout"), re_asks=3))
    told = [row for (_, source), row in rows.items() if source == "Td"]
    assert {(row["status"], row["reason"], row["detail"], row["attempts"]) for row in told} == {
        ("failed", "timeout", "timeout!", 1)
    }


def test_a_text_for_many_images_is_rejected(tmp_path):
    script = ("A man in a red coat walks by.", "The man of picture # is in red.")
    rows = work(*made(tmp_path, ("Ts", "static", *script), cleaning=dict(max_repeats=3)))
    assert Counter(row["attempts"] for row in rows.values()) == {1: 3, 2: 7}
    assert {answer["rule"] for row in rows.values() for answer in row["rejected"]} == {"repeated"}


def test_a_stopped_job_asks_for_nothing_twice(tmp_path):
    job, folder = made(tmp_path, ("Ts", "static", "", "stop"))
    with pytest.raises(BackendError, match="on strike"):
        work(job, folder)
    first = set(ASKED)
    answered = {(image, attempt) for _, image, attempt in first if attempt == 0}
    assert answered
    job, folder = made(tmp_path, ("Ts", "static", "", "The man of picture # is in red."))
    rows = work(job, folder)
    assert all(row["attempts"] == 2 for row in rows.values())
    asked_again = {(image, attempt) for _, image, attempt in ASKED if attempt == 0}
    in_journal = answered - asked_again
    assert in_journal
    assert len(answered & asked_again) <= 4  # those under way when the other stopped the job


def test_sources_of_one_back_end_share_its_limit(tmp_path):
    text = "The man of picture # is in red."
    work(*made(tmp_path, ("Ts", "static", text), ("Td", "dynamic", text), images=30))
    assert len(BUSY) == 1
    assert max(BUSY.values()) == 4


def test_a_process_that_slept_through_a_take_over_does_no_harm(tmp_path):
    write_images(tmp_path / "images", 300)
    with caption_server(Behaviour(share=0.2, faults=("delay",), delay=0.1)) as server:
        config = write_config(
            tmp_path / "job.py", tmp_path / "images", server.url, shard_size=16, backend=dict(concurrency=4)
        )
        job = replace(CaptionJob.from_file(config), stale_after=3.0)
        folder = job.open(tmp_path / "out")
        list_images(folder.list_path, job.build_images())
        pids = [forked(lambda: run_worker(job, tmp_path / "out")) for _ in range(2)]
        wait_until(lambda: len(list((tmp_path / "out/journals").glob("*.jsonl"))) >= 4)
        os.kill(pids[0], signal.SIGSTOP)
        started = time.monotonic()
        _, status = os.waitpid(pids[1], 0)
        assert status == 0
        assert time.monotonic() - started > 1
        os.kill(pids[0], signal.SIGCONT)
        assert os.waitpid(pids[0], 0)[1] == 0
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 600
    for (image, source), (row,) in rows.items():
        kind = {"Ts-qwen": "static", "Td-qwen": "dynamic"}[source]
        assert (row["status"], row["caption"]) == ("ok", caption_of(int(image[:5]), kind))
    assert not list((tmp_path / "out/shards").glob(".*"))
    JobFolder(tmp_path / "out", 16, 3).tidy()


def forked(function):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        function()
        code = 0
    finally:
        os._exit(code)
