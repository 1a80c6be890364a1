"""Ranking metrics against a full argsort."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.common import Job, Row, interleaved, peak_memory

from mmreid_text.evaluation.ranking import rank

Inputs: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
DIM = 512


@dataclass(frozen=True)
class Size:
    """A retrieval run, of which the first ``timed`` queries are ranked where time is taken."""

    name: str
    queries: int
    images: int
    identities: int
    timed: int


CUHK = Size("CUHK-PEDES 6156 x 3074", 6156, 3074, 1000, timed=6156)
ICFG = Size("ICFG-PEDES 19848 x 19848, first eighth", 19848, 19848, 1000, timed=2481)
LARGE = Size("50,000 x 100,000", 50_000, 100_000, 10_000, timed=500)


def run(rounds: int) -> list[Row]:
    rows: list[Row] = []
    for size in (CUHK, ICFG):
        memory = {name: peak_memory("eval", name, size.name) for name in ("ours", "plain", "vectorised")}
        inputs = make_inputs(size, size.timed)
        ours, plain = rank(*inputs), plain_rank(*inputs)
        worst = max(abs(ours[key] - plain[key]) for key in plain)
        assert worst < 1e-3, f"the two implementations disagree by {worst} percent points"
        rows += _rows(size, inputs, rounds, memory)
    # The plain recipe would need 200 GB here, so its memory is that of the slice which is timed.
    memory = {"ours": peak_memory("eval", "ours", LARGE.name), "plain": peak_memory("eval", "plain", LARGE.name)}
    remark = f"ours MB: all queries, above the features' own {(LARGE.queries + LARGE.images) * DIM * 4 / 2**20:,.0f}"
    remark += f"; seconds and reference MB: {LARGE.timed} queries"
    return rows + _rows(LARGE, make_inputs(LARGE, LARGE.timed), rounds, memory, remark)


def _rows(size: Size, inputs: Inputs, rounds: int, memory: dict[str, float], remark: str = "") -> list[Row]:
    labels = {"plain": "full argsort, loops", "vectorised": "full argsort, vectorised", "gemm": "matrix product alone"}
    functions = {"plain": plain_rank, "vectorised": vectorised_rank, "gemm": gemm_only, "ours": rank}
    jobs: dict[str, Job] = {
        name: (lambda function=function: function(*inputs))
        for name, function in functions.items()
        if name in memory or name == "gemm"
    }
    seconds = interleaved(jobs, rounds)
    flops = 2.0 * size.timed * size.images * DIM  # of the matrix product, which both do
    return [
        Row(
            f"evaluation, {size.name}",
            label,
            seconds["ours"],
            seconds[name],
            memory["ours"] if name in memory else None,
            memory.get(name),
            remark,
            ours_flops=flops,
            reference_flops=flops,
        )
        for name, label in labels.items()
        if name in jobs
    ]


def memory_job(name: str, argument: str) -> Job:
    size = next(size for size in (CUHK, ICFG, LARGE) if size.name == argument)
    inputs = make_inputs(size, size.queries if size is LARGE and name == "ours" else size.timed)
    function: Callable = {"ours": rank, "plain": plain_rank, "vectorised": vectorised_rank}[name]
    function(*(array[:64] for array in inputs[:2]), np.zeros(64, int), np.zeros(64, int))  # loads libraries
    return lambda: function(*inputs)


def make_inputs(size: Size, queries: int) -> Inputs:
    """Random features; every identity has its share of images and of captions, which stand in its order."""
    generator = np.random.default_rng(0)
    query, gallery = (generator.standard_normal((n, DIM), dtype=np.float32) for n in (queries, size.images))
    query_pid, gallery_pid = (np.arange(n) * size.identities // n for n in (size.queries, size.images))
    return query, gallery, query_pid[:queries], gallery_pid


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
        inp.append(seen[i, hits[i].nonzero()[-1]] / (hits[i].nonzero()[-1] + 1.0))
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
    size = min(1024, len(query))
    buffer = np.empty((size, len(gallery)), dtype=np.float32)
    for start in range(0, len(query), size):
        block = query[start : start + size]
        np.matmul(block, gallery.T, out=buffer[: len(block)])
