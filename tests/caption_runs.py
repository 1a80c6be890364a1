"""Captioning jobs for tests: configs, and the tool run in forked processes that may be killed."""

import importlib.util
import os
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

import pyarrow as pa

_SPEC = importlib.util.spec_from_file_location("caption", Path(__file__).parents[1] / "tools/caption.py")
tool = importlib.util.module_from_spec(_SPEC)
sys.modules["caption"] = tool  # so that its functions can be pickled
_SPEC.loader.exec_module(tool)


def write_config(path: Path, images: Path, url: str, **options) -> Path:
    """Static and dynamic captions of a folder by one server."""
    backend = dict(type="OpenAIServer", endpoints=url, model="tiny", concurrency=32, backoff=0.02, max_backoff=0.5)
    backend.update(options.pop("backend", {}))
    cfg = dict(
        images=dict(type="ImageFolder", root=str(images)),
        sources=[
            dict(name="Ts-qwen", backend=backend, instruction="paper-static"),
            dict(name="Td-qwen", backend=backend, instruction="paper-dynamic", templates="bank"),
        ],
        name="tried",
        **options,
    )
    path.write_text("".join(f"{key} = {value!r}\n" for key, value in cfg.items()))
    return path


def start(*args) -> int:
    """Run the tool in a process group of its own; returns the number of that process."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        log = os.open(os.devnull, os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = tool.main([str(arg) for arg in args])
    finally:
        os._exit(code)


def kill(pid: int, group: bool = True) -> None:
    if group:
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def decided(out: Path) -> int:
    """Lines of journals plus rows of finished shards: a measure of how far a job is."""
    count = 0
    for path in [*(out / "journals").glob("*.jsonl"), *(out / "shards").glob("[0-9]*.arrow")]:
        try:
            count += len(read_shard(path)) if path.suffix == ".arrow" else path.read_bytes().count(b"\n")
        except FileNotFoundError:  # finished meanwhile
            continue
    return count


def read_shard(path: Path) -> list[dict]:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all().to_pylist()


def rows_of(out: Path) -> dict[tuple[str, str], list[dict]]:
    """Rows of all shards by image and source."""
    rows = defaultdict(list)
    for path in sorted((out / "shards").iterdir()):
        for row in read_shard(path):
            rows[row["image"], row["source"]].append(row)
    return rows
