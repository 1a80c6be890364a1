"""Noise of 4 M captions in a mapped table, against a Python list of arrays."""

import numpy as np
import torch
from benchmarks.common import Job, Row, interleaved, peak_memory

from mmreid_text.engine.noise_table import NoiseTable

CAPTIONS = 4_000_000
BATCH = 512
LENGTH = 77


def run(rounds: int) -> list[Row]:
    """Noise of every caption written once, in random order, to a store that stands: as an epoch does."""
    part = CAPTIONS // 20
    stores = {"ours": make_store("ours", CAPTIONS), "plain": make_store("plain", part)}
    for store in stores.values():
        fill(store, part)
    ours, plain = stores.values()
    assert isinstance(ours, NoiseTable)
    assert isinstance(plain, list)
    for caption in range(0, part, part // 7):
        assert np.abs(ours.rows[caption] / 127.5 - plain[caption][1]).max() <= 0.5 / 127.5 + 1e-6
    ours_mb = peak_memory("table", "ours", str(CAPTIONS))
    plain_mb = 20 * peak_memory("table", "plain", str(part))
    seconds = interleaved({name: (lambda store=store: fill(store, part)) for name, store in stores.items()}, rounds)
    per_thousand = {name: 1e6 * value / part for name, value in seconds.items()}
    remark = f"ms per 1,000 captions: ours {per_thousand['ours']:.2f}, reference {per_thousand['plain']:.2f}; "
    remark += "reference memory: 20 x that of 200,000 captions; seconds: 200,000 captions"
    return [
        Row(
            "noise table, 4 M captions",
            "list of arrays",
            seconds["ours"],
            seconds["plain"],
            ours_mb,
            plain_mb,
            remark,
            ours_bytes=float(part * LENGTH * 5),  # float32 read, uint8 written
            reference_bytes=float(part * LENGTH * 12),  # float64 written
        )
    ]


def memory_job(name: str, argument: str) -> Job:
    fill(make_store(name, BATCH), BATCH)
    return lambda: fill(make_store(name, int(argument)), int(argument))


def make_store(name: str, captions: int) -> NoiseTable | list[list]:
    return NoiseTable(captions, "benchmark", LENGTH) if name == "ours" else [[i, None] for i in range(captions)]


def fill(store: NoiseTable | list[list], captions: int) -> None:
    """Write the noise of so many captions, a batch at a time."""
    order = np.random.default_rng(0).permutation(captions)
    noise = torch.rand(BATCH, LENGTH, generator=torch.Generator().manual_seed(0)) * 2
    for start in range(0, captions, BATCH):
        ids = order[start : start + BATCH]
        if isinstance(store, NoiseTable):
            store.write(ids, NoiseTable.quantise(noise[: len(ids)]).numpy())
        else:
            plain_update(store, ids, noise[: len(ids)])


def plain_update(rows: list[list], caption_id: np.ndarray, noise: torch.Tensor) -> None:
    """Noise kept as plain training scripts do: sample by sample off the device, as an array in a Python list."""
    for i, levels in zip(caption_id.tolist(), noise):
        rows[i][1] = levels.cpu().numpy().astype(np.float64)
