"""Text-IoU: phrases read from captions, and the IoU of every pair of a batch."""

import time

import numpy as np
import torch
from benchmarks.common import Row, interleaved

from mmreid_text.procedural.domains import World
from mmreid_text.text_iou import LexiconPhrases, PhraseTable, batch_iou

PEOPLE = 500
BATCHES = 8
SIZES = (128, 512)


def run(rounds: int) -> list[Row]:
    world = World("street", PEOPLE, 4)
    captions = [caption.text for index in range(len(world)) for caption in world.captions(index)]
    start = time.process_time()
    table = PhraseTable.collect(captions, LexiconPhrases())
    speed = len(captions) / (time.process_time() - start)
    sets = [set(table.phrases(row)) for row in range(len(table))]
    rows = [iou_row(table, sets, size, rounds) for size in SIZES]
    rows[0].remark += f"; phrases by lexicon, {speed:,.0f} captions/s"
    return rows


def iou_row(table: PhraseTable, sets: list[set[str]], size: int, rounds: int) -> Row:
    """Batches of random captions, against sets of strings in Python."""
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, len(table), size) for _ in range(BATCHES)]
    indptr, indices = torch.from_numpy(table.indptr), torch.from_numpy(table.indices)
    widest, vocabulary = int(np.diff(table.indptr).max()), len(table.names)

    def ours() -> list[torch.Tensor]:
        return [batch_iou(indptr, indices, torch.from_numpy(rows), widest, vocabulary) for rows in batches]

    def plain() -> list[np.ndarray]:
        return [plain_iou([sets[row] for row in rows], rows) for rows in batches[:1]]

    np.testing.assert_allclose(ours()[0].numpy(), plain()[0], rtol=1e-6)
    seconds = interleaved({"ours": ours, "plain": plain}, rounds)
    pairs = BATCHES * size**2
    return Row(
        f"Text-IoU of batches of {size}",
        "sets in Python (x 8)",
        seconds["ours"],
        BATCHES * seconds["plain"],
        remark=f"{pairs / seconds['ours'] / 1e6:.1f} M pairs/s, {pairs / seconds['plain'] / BATCHES / 1e6:.2f} plain",
    )


def plain_iou(sets: list[set[str]], rows: np.ndarray) -> np.ndarray:
    """The definition, pair by pair."""
    iou = np.eye(len(sets))
    for i, one in enumerate(sets):
        for j, other in enumerate(sets):
            union = len(one | other)
            iou[i, j] = 1 if rows[i] == rows[j] else len(one & other) / union if union else 0
    return iou
