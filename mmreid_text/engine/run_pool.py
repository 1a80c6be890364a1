"""Runs in processes of their own, several at once: threads, loggers and process groups belong to a process."""

import copy
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pprint import pformat
from typing import Any

import torch
from mmengine.config import Config

from mmreid_text.atomic_write import write_text
from mmreid_text.engine.config import result_names
from mmreid_text.engine.training_run import best_checkpoint, finished_metrics, run_stamp

OUTPUT = "output.log"
_TAIL = 15  # lines of a failed run's output
_SILENCE = 600.0  # seconds without a line, after which the runs at work are named
_PR_SET_PDEATHSIG = 1


class RunFailed(RuntimeError):
    """A run ended before it was done."""


@dataclass(frozen=True, eq=False)
class Run:
    """A training run, or a test, as :func:`~mmreid_text.engine.training_run.train_and_test` takes it.

    Attributes:
        name: What a reader calls it.
        work_dir: Its folder.
        cfg: Its config.
        start: A run whose best epoch the training starts from, and which is therefore done before.
        checkpoint: Test this file and train nothing; '' tests the config's pretrained weights.
        features: Dump the test sets' features.
    """

    name: str
    work_dir: Path
    cfg: Config
    start: "Run | None" = None
    checkpoint: str | None = None
    features: bool = False

    @cached_property
    def stamp(self) -> str:
        """Identifies the run: its settings, and what it starts from."""
        return run_stamp(self.cfg, self.checkpoint, None if self.start is None else self.start.stamp)

    def metrics(self) -> dict[str, float] | None:
        """What the run measured; None where something is left to do."""
        return finished_metrics(self.cfg, self.work_dir, self.stamp, self.features)

    def write_config(self, path: Path) -> None:
        """Write the config, the checkpoint of ``start`` in it."""
        cfg = copy.deepcopy(self.cfg)
        if self.start is not None:
            source = result_names(cfg.train_dataloader)[0]  # matters where each benchmark has a best epoch of its own
            weights = best_checkpoint(self.start.work_dir, source)
            loader = (cfg.model.get("init_cfg") or {}).get("type", "CLIPPretrained")
            cfg.model.init_cfg = dict(type=loader, checkpoint=str(weights.absolute()))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, config_text(cfg))


def config_text(cfg: Config) -> str:
    """A config as a file that ``Config.fromfile`` reads; ``Config.dump`` takes seconds to lay out its own."""
    return "".join(f"{key} = {pformat(value, width=110, sort_dicts=False)}\n" for key, value in cfg.to_dict().items())


def execute(runs: Sequence[Run], jobs: int, nproc: int = 1) -> None:
    """Bring runs to their end, those that are done already left alone, and say how far it is.

    When this process dies, in whatever way, its runs die with it; the next call goes on from what is done.

    Args:
        runs: The runs, and among them those that others start from.
        jobs: Runs at a time. Where there are GPUs, each takes the next ``nproc`` of them.
        nproc: Processes of a run, started by torchrun where there are several.

    Raises:
        RunFailed: Names the run, its log and the last lines of it. Runs that had begun are brought to their end before,
            others do not begin.
    """
    waiting = list(runs)
    done: set[Run] = set()
    running: dict[int, tuple[Run, subprocess.Popen]] = {}  # by slot
    failed: list[tuple[Run, int]] = []
    progress = _Progress(len(runs))
    try:
        while running or (waiting and not failed):
            for run in [r for r in waiting if r.start is None or r.start in done]:
                slot = min(set(range(jobs)) - running.keys(), default=None)
                if slot is None or failed:
                    break
                waiting.remove(run)
                if run.metrics() is not None:
                    done.add(run)
                    progress.skip(run)
                else:
                    running[slot] = run, _start(run, slot, jobs, nproc)
                    progress.begin(run)
            for slot, (run, process) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[slot]
                if process.returncode or run.metrics() is None:
                    failed.append((run, process.returncode))
                    progress.fail(run, len(running))
                else:
                    done.add(run)
                    progress.finish(run)
            if running:
                progress.wait([run for run, _ in running.values()])
                time.sleep(0.05)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()
    if failed:
        raise RunFailed("\n".join(_last_words(run, code) for run, code in failed))


def default_jobs(nproc: int) -> int:
    """Runs at a time that fill the machine: its GPUs, or its cores where there is none."""
    return max(1, (torch.cuda.device_count() or os.cpu_count() or 1) // nproc)


class _Progress:
    def __init__(self, total: int) -> None:
        self.total, self.skipped, self.finished = total, 0, 0
        self.began = self.spoke = time.monotonic()

    def begin(self, run: Run) -> None:
        self._print(f"{run.name} begins; its output: {run.work_dir / OUTPUT}")

    def fail(self, run: Run, running: int) -> None:
        self._print(f"{run.name} FAILED; waiting for {running} runs that have begun")

    def wait(self, running: Sequence[Run]) -> None:
        """Say how far the runs at work are, if nothing was said for long."""
        if time.monotonic() - self.spoke >= _SILENCE:
            self._print("at work: " + ", ".join(f"{run.name} ({_stage(run)})" for run in running))

    def skip(self, run: Run) -> None:
        self.skipped += 1
        self._say(run, "done before")

    def finish(self, run: Run) -> None:
        self.finished += 1
        seconds = time.monotonic() - self.began
        left = seconds / self.finished * (self.total - self.skipped - self.finished)
        self._say(run, f"{self.finished / seconds * 3600:.1f} runs/h, ETA {left / 60:.0f} min")

    def _say(self, run: Run, remark: str) -> None:
        r1 = (run.metrics() or {}).get("mean/R1", float("nan"))
        self._print(f"[{self.skipped + self.finished}/{self.total}] {run.name}: mean R1 {r1:.2f} ({remark})")

    def _print(self, line: str) -> None:
        print(line, flush=True)
        self.spoke = time.monotonic()


def _stage(run: Run) -> str:
    """How far a run at work is, by the last checkpoint in its folder."""
    if run.checkpoint is not None:
        return "testing"
    last = run.work_dir / "last_checkpoint"
    saved = Path(last.read_text(encoding="utf-8")).stem.replace("_", " ") if last.exists() else "epoch 0"
    return f"{saved} of {run.cfg.train_cfg.get('max_epochs', '?')}"


def _start(run: Run, slot: int, jobs: int, nproc: int) -> subprocess.Popen:
    config = run.work_dir / "config.py"
    run.write_config(config)
    arguments = [str(config), str(run.work_dir), "--stamp", run.stamp]
    arguments += ["--features"] * run.features
    arguments += [] if run.checkpoint is None else ["--checkpoint", run.checkpoint]
    command = [sys.executable]
    if nproc > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={nproc}"]
        arguments += ["--launcher", "pytorch"]
    command += ["-m", "mmreid_text.engine.training_run", *arguments]
    with (run.work_dir / OUTPUT).open("w") as output:
        return subprocess.Popen(
            command,
            env=_environment(slot, jobs, nproc),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_DieWithParent(),
        )


def _environment(slot: int, jobs: int, nproc: int) -> dict[str, str]:
    env = dict(os.environ)
    env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // (jobs * nproc))))
    count = torch.cuda.device_count()
    if count:
        visible = env.get("CUDA_VISIBLE_DEVICES", "")
        devices = visible.split(",") if visible else [str(i) for i in range(count)]
        env["CUDA_VISIBLE_DEVICES"] = ",".join(devices[(slot * nproc + i) % count] for i in range(nproc))
    return env


class _DieWithParent:
    """Asks Linux to end a child when this process is killed; elsewhere such a child lives on."""

    def __init__(self) -> None:
        self.parent = os.getpid()
        self.prctl: Any = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def __call__(self) -> None:
        if self.prctl is not None:
            self.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != self.parent:
                os._exit(1)


def _last_words(run: Run, code: int) -> str:
    log = run.work_dir / OUTPUT
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
    return (
        f"{run.name} ended with exit code {code}. The same command goes on from what is done. {log} ends with\n  "
        + "\n  ".join(lines)
    )
