"""Speed and memory of the hot paths beside plain references, in one run on one thread.

Seconds are the process's own CPU seconds, median of interleaved rounds, so that neighbours on the machine matter
little. Memory is the peak of resident memory above the inputs, each measured in a process of its own.
"""

# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # read when numpy and torch are imported

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F

from mmreid_text.datasets.transforms.tokenizer import EOT, MASK, SOT
from mmreid_text.engine.noise_table import NoiseTable
from mmreid_text.evaluation.ranking import rank

Job = Callable[[], object]
EVAL_SIZES = {"CUHK-PEDES 6156 x 3074": (6156, 3074, 1000), "ICFG-PEDES 1/8 2481 x 19848": (2481, 19848, 1000)}
CAPTIONS = 4_000_000
BATCH = 512
LENGTH = 77


@dataclass
class Row:
    """One comparison: CPU seconds of both for the same work, and MB of peak memory where it was measured."""

    part: str
    reference: str
    ours_s: float
    reference_s: float
    ours_mb: float | None = None
    reference_mb: float | None = None
    remark: str = ""


def eval_inputs(size: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Random 512-d features with every identity's share of images, and captions that follow the images."""
    num_query, num_gallery, num_ids = EVAL_SIZES[size]
    generator = np.random.default_rng(0)
    query, gallery = (generator.standard_normal((n, 512), dtype=np.float32) for n in (num_query, num_gallery))
    gallery_pid = np.arange(num_gallery) % num_ids
    return query, gallery, np.arange(num_query) % num_ids, gallery_pid


def plain_rank(*arrays: np.ndarray) -> dict[str, float]:
    """The metrics as plain evaluation scripts compute them: full argsort, then loops over queries and over ranks."""
    query, gallery, query_pid, gallery_pid = map(torch.from_numpy, arrays)
    similarity = F.normalize(query) @ F.normalize(gallery).T
    order = torch.argsort(similarity, dim=1, descending=True)
    ranked_pid = gallery_pid[order]
    hits = ranked_pid == query_pid[:, None]
    seen = hits.cumsum(dim=1)
    inp = []
    for i in range(len(hits)):
        last = hits[i].nonzero()[-1]
        inp.append(seen[i, last] / (last + 1.0))
    precision = torch.stack([seen[:, j] / (j + 1.0) for j in range(hits.shape[1])], dim=1)
    ap = (precision * hits).sum(dim=1) / hits.sum(dim=1)
    return _percent(seen, ap, torch.cat(inp))


def vectorised_rank(*arrays: np.ndarray) -> dict[str, float]:
    """Full argsort again, without a Python loop and holding no more than it needs."""
    query, gallery, query_pid, gallery_pid = map(torch.from_numpy, arrays)
    order = torch.argsort(F.normalize(query) @ F.normalize(gallery).T, dim=1, descending=True)
    hits = gallery_pid[order] == query_pid[:, None]
    del order
    seen = hits.cumsum(dim=1)
    position = torch.arange(1, hits.shape[1] + 1)
    ap = (seen / position * hits).sum(dim=1) / hits.sum(dim=1)
    inp = hits.sum(dim=1) / (hits * position).amax(dim=1)
    return _percent(seen, ap, inp)


def _percent(seen: torch.Tensor, ap: torch.Tensor, inp: torch.Tensor) -> dict[str, float]:
    metrics = {f"R{k}": (seen[:, k - 1] > 0).float() for k in (1, 5, 10)} | {"mAP": ap, "mINP": inp}
    return {name: 100.0 * float(value.mean()) for name, value in metrics.items()}


def gemm_only(query: np.ndarray, gallery: np.ndarray, *_: np.ndarray) -> None:
    """The floor: similarities alone, into one buffer."""
    buffer = np.empty((1024, len(gallery)), dtype=np.float32)
    for start in range(0, len(query), 1024):
        block = query[start : start + 1024]
        np.matmul(block, gallery.T, out=buffer[: len(block)])


def bench_eval(rounds: int) -> list[Row]:
    """Ranking metrics against a full argsort."""
    rows = []
    for size in EVAL_SIZES:
        memory = {name: peak_memory("eval", name, size) for name in ("ours", "plain", "vectorised")}
        inputs = eval_inputs(size)
        ours, plain = rank(*inputs), plain_rank(*inputs)
        worst = max(abs(ours[key] - plain[key]) for key in plain)
        assert worst < 1e-3, f"the two implementations disagree by {worst} percent points"
        jobs: dict[str, Job] = {
            "ours": lambda inputs=inputs: rank(*inputs),
            "plain": lambda inputs=inputs: plain_rank(*inputs),
            "vectorised": lambda inputs=inputs: vectorised_rank(*inputs),
            "gemm": lambda inputs=inputs: gemm_only(*inputs),
        }
        seconds = interleaved(jobs, rounds)
        for name, label in (("plain", "full argsort, loops"), ("vectorised", "full argsort, vectorised")):
            rows.append(Row(f"evaluation, {size}", label, seconds["ours"], seconds[name], memory["ours"], memory[name]))
        rows.append(Row(f"evaluation, {size}", "matrix product alone (floor)", seconds["ours"], seconds["gemm"]))
    return rows


def plain_table_update(rows: list[list], caption_id: np.ndarray, noise: np.ndarray) -> None:
    """Noise kept as plain training scripts do: an array per sample in a Python list."""
    for i, row in zip(caption_id, noise):
        rows[int(i)][1] = np.array(row, dtype=np.float64)


def fill_table(name: str, captions: int) -> None:
    """Write every caption's noise once, in random order."""
    order = np.random.default_rng(0).permutation(captions)
    noise = torch.rand(BATCH, LENGTH, generator=torch.Generator().manual_seed(0)) * 2
    table = NoiseTable(captions, "benchmark", LENGTH) if name == "ours" else None
    rows: list[list] = [[i, None] for i in range(captions)] if table is None else []
    for start in range(0, captions, BATCH):
        ids = order[start : start + BATCH]
        if table is None:
            plain_table_update(rows, ids, noise.numpy()[: len(ids)])
        else:
            table.write(ids, NoiseTable.quantise(noise[: len(ids)]).numpy())


def bench_table(rounds: int) -> list[Row]:
    """Noise of 4 M captions, every row written once, against a Python list of arrays at a twentieth of the size."""
    part = CAPTIONS // 20
    ours_mb = peak_memory("table", "ours", str(CAPTIONS))
    plain_mb = 20 * peak_memory("table", "plain", str(part))
    jobs: dict[str, Job] = {name: (lambda name=name: fill_table(name, part)) for name in ("ours", "plain")}
    seconds = interleaved(jobs, rounds)
    remark = "reference memory: 20 x that of 200,000 captions; seconds: 200,000 captions"
    return [
        Row("noise table, 4 M captions", "list of arrays", seconds["ours"], seconds["plain"], ours_mb, plain_mb, remark)
    ]


def plain_masking(text: np.ndarray, noise: np.ndarray, p: float) -> list[list[int]]:
    """Eq. 4 and the 80/10/10 rule, token by token."""
    masked = []
    for ids, levels in zip(text.tolist(), noise.tolist()):
        end = ids.index(EOT)
        mean = sum(levels[1:end]) / max(1, end - 1)
        for j in range(1, end):
            if random.random() < min(max(levels[j] - mean + p, 0.0), 1.0):
                kind = random.random()
                if kind < 0.8:
                    ids[j] = MASK
                elif kind < 0.9:
                    ids[j] = random.randrange(1, MASK)
        masked.append(ids)
    return masked


def bench_masking(rounds: int) -> list[Row]:
    """Captions masked from the noise table, against a Python loop over tokens."""
    # Imported here, because the models bring in much that the other parts' memory should not be measured with.
    from mmreid_text.datasets.transforms.masking import draw_masked_text
    from mmreid_text.models.token_noise import masking_probability

    generator = np.random.default_rng(0)
    captions = 32 * BATCH
    text = np.zeros((captions, LENGTH), dtype=np.int64)
    for row, length in zip(text, generator.integers(15, LENGTH - 1, captions)):
        row[0], row[1:length], row[length] = SOT, generator.integers(1, MASK, length - 1), EOT
    table = NoiseTable(captions, "benchmark", LENGTH)
    table.write(np.arange(captions), generator.integers(0, 256, (captions, LENGTH), dtype=np.uint8))
    order = generator.permutation(captions)

    def ours() -> None:
        for start in range(0, captions, BATCH):
            ids = order[start : start + BATCH]
            batch = torch.from_numpy(text[ids])
            chance = masking_probability(table.read(ids, LENGTH), batch, 0.15)
            draw_masked_text(batch.numpy(), chance.numpy(), ids, seed=0, epoch=1)

    seconds = interleaved({"ours": ours, "plain": lambda: plain_masking(text, table.rows / 127.5, 0.15)}, rounds)
    speed = {name: captions / value for name, value in seconds.items()}
    remark = f"captions/s: ours {speed['ours']:,.0f}, reference {speed['plain']:,.0f}"
    return [
        Row(f"masking, {captions:,} captions", "loop over tokens", seconds["ours"], seconds["plain"], remark=remark)
    ]


PARTS: dict[str, Callable[[int], list[Row]]] = {"eval": bench_eval, "table": bench_table, "masking": bench_masking}


def interleaved(jobs: dict[str, Job], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each job; every round runs all jobs, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for count in range(rounds + 1):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            if count:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory(part: str, name: str, argument: str) -> float:
    """Peak resident MB of one job above its inputs, in a fresh process."""
    command = [sys.executable, __file__, part, "--measure-memory", name, argument]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure_memory(part: str, name: str, argument: str) -> float:
    """The other side of :func:`peak_memory`."""
    if part == "eval":
        inputs = eval_inputs(argument)
        function = {"ours": rank, "plain": plain_rank, "vectorised": vectorised_rank}[name]
        function(*(array[:64] for array in inputs[:2]), np.zeros(64, int), np.zeros(64, int))  # loads libraries
        job: Job = lambda: function(*inputs)  # noqa: E731
    else:
        fill_table(name, BATCH)
        job = lambda: fill_table(name, int(argument))  # noqa: E731
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the high-water mark begins anew
    before = _status("VmRSS")
    job()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{key}:"))


def show(rows: list[Row]) -> str:
    """Rows as an aligned Markdown table."""
    lines = [["part", "reference", "ours s", "reference s", "time", "ours MB", "reference MB", "memory", "remark"]]
    for r in rows:
        line = [r.part, r.reference, f"{r.ours_s:.3f}", f"{r.reference_s:.3f}", f"{r.reference_s / r.ours_s:.1f}x"]
        if r.ours_mb is not None and r.reference_mb is not None:
            line += [f"{r.ours_mb:,.0f}", f"{r.reference_mb:,.0f}", f"1/{r.reference_mb / r.ours_mb:.0f}"]
        else:
            line += ["-", "-", "-"]
        lines.append([*line, r.remark])
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (default 3)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there as well")
    parser.add_argument("--measure-memory", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.measure_memory:
        print(measure_memory(args.part, *args.measure_memory))
        return
    rows = []
    for name in PARTS if args.part == "all" else [args.part]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += PARTS[name](args.rounds)
    print(show(rows))
    if args.json:
        with open(args.json, "w") as file:
            json.dump([asdict(row) for row in rows], file, indent=2)


if __name__ == "__main__":
    main()
