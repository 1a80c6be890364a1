"""What the parts of the benchmark share: rows, clocks, peak memory, and what the machine can do at best."""

import gc
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

Job = Callable[[], object]
COMMAND = Path(__file__).parents[1] / "benchmark.py"


@dataclass
class Row:
    """One comparison: the same work done by both.

    Seconds are CPU seconds on one thread, or elapsed ones of work on a GPU. MB, FLOP and bytes moved stand where they
    were measured or counted; all are per job, as the seconds are.
    """

    part: str
    reference: str
    ours_s: float
    reference_s: float
    ours_mb: float | None = None
    reference_mb: float | None = None
    remark: str = ""
    ours_flops: float | None = None
    reference_flops: float | None = None
    ours_bytes: float | None = None
    reference_bytes: float | None = None


def interleaved(jobs: Mapping[str, Job], rounds: int, device: str = "cpu") -> dict[str, float]:
    """Median seconds of each job; every round runs all jobs in turn, after one round that does not count.

    Args:
        jobs: By name.
        rounds: That count, at least 1.
        device: ``cpu`` takes the process's own CPU seconds, which neighbours on the machine disturb little; ``cuda``
            takes elapsed seconds until the device has finished.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for count in range(rounds + 1):
        for name, job in jobs.items():
            start = _clock(device)
            job()
            if count:
                seconds[name].append(_clock(device) - start)
            else:
                _clock(device)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory(part: str, name: str, argument: str) -> float:
    """Peak MB of one job of a part above its inputs, in a fresh process: ``memory_job(name, argument)`` of the part."""
    command = [sys.executable, str(COMMAND), part, "--measure-memory", name, argument]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure_memory(job: Job) -> float:
    """The other side of :func:`peak_memory`: resident MB, or MB on the GPU where the job's inputs stand there."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        job()
        return (torch.cuda.max_memory_allocated() - allocated) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = status_kb("VmRSS")
    job()
    return (status_kb("VmHWM") - before) / 1024


def status_kb(key: str) -> int:
    """A figure in kB of this process: ``VmRSS`` resident now, ``VmHWM`` at most."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{key}:"))


def ceiling_gemm(device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """The most FLOP/s that matrix products reach: the best of a square one and of a ViT's widest layer."""
    if device == "cpu":
        shapes, repeats = [(1536, 1536, 1536), (1544, 768, 3072)], 2
    else:
        shapes, repeats = [(8192, 8192, 8192), (49408, 768, 3072)], 50
    best = 0.0
    for m, k, n in shapes:
        a, b = torch.randn(m, k, device=device).to(dtype), torch.randn(k, n, device=device).to(dtype)
        out = torch.empty(m, n, device=device, dtype=dtype)
        jobs: dict[str, Job] = {"torch": lambda a=a, b=b, out=out: [torch.mm(a, b, out=out) for _ in range(repeats)]}
        if device == "cpu" and dtype == torch.float32:  # the two may come with different BLAS
            arrays = a.numpy(), b.numpy(), out.numpy()
            jobs["numpy"] = lambda arrays=arrays: [np.matmul(*arrays[:2], out=arrays[2]) for _ in range(repeats)]
        best = max(best, 2 * m * k * n * repeats / min(interleaved(jobs, 3, device).values()))
    return best


def ceiling_stream(device: str = "cpu") -> float:
    """Bytes/s of copying one large array to another: bytes read and bytes written both count."""
    source = torch.ones(2**25 if device == "cpu" else 2**28, device=device)
    target = torch.empty_like(source)
    repeats = 3 if device == "cpu" else 50

    def copies() -> None:
        for _ in range(repeats):
            target.copy_(source)

    return 2 * source.nbytes * repeats / interleaved({"": copies}, 3, device)[""]


def machine() -> dict[str, object]:
    """What the figures were taken on; ``load`` is the machine's at this moment, other people's jobs included."""
    facts: dict[str, object] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "gemm_flops": ceiling_gemm(),
        "stream_bytes": ceiling_stream(),
    }
    if torch.cuda.is_available():
        facts |= {
            "gpu": torch.cuda.get_device_name(),
            "gpu_bf16_gemm_flops": ceiling_gemm("cuda", torch.bfloat16),
            "gpu_stream_bytes": ceiling_stream("cuda"),
        }
    return facts


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def show_machine(facts: Mapping[str, object]) -> str:
    """:func:`machine` in one line."""
    units = {"_flops": (1e9, "GFLOP/s"), "_bytes": (1e9, "GB/s")}
    words = []
    for name, value in facts.items():
        ending = name[-6:]
        if ending in units and isinstance(value, float):
            words.append(f"{name[:-6].replace('_', ' ')} {value / units[ending][0]:.3g} {units[ending][1]}")
        else:
            words.append(f"{name} {value}")
    return "machine: " + ", ".join(words)


def show(rows: list[Row]) -> str:
    """Rows as an aligned Markdown table."""
    head = ["part", "reference", "ours s", "reference s", "time", "ours MB", "reference MB", "memory"]
    lines = [[*head, "ours GFLOP/s", "reference", "ours GB/s", "reference", "remark"]]
    for r in rows:
        line = [r.part, r.reference, f"{r.ours_s:.3g}", f"{r.reference_s:.3g}", f"{r.reference_s / r.ours_s:.3g}x"]
        line += [_cell(r.ours_mb, 1), _cell(r.reference_mb, 1)]
        line.append(f"1/{r.reference_mb / r.ours_mb:.3g}" if r.ours_mb and r.reference_mb else "-")
        for work, seconds in ((r.ours_flops, r.ours_s), (r.reference_flops, r.reference_s)):
            line.append(_cell(work, 1e9 * seconds))
        for work, seconds in ((r.ours_bytes, r.ours_s), (r.reference_bytes, r.reference_s)):
            line.append(_cell(work, 1e9 * seconds))
        lines.append([*line, r.remark])
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)


def _cell(value: float | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:,.0f}" if value / unit >= 100 else f"{value / unit:.3g}"
