"""Text of a training sample: tokens, masking, and what the caption table costs as it grows to 4 M rows."""

import html
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import pyarrow as pa
import regex
import torch
from benchmarks.common import Row, interleaved
from torch.utils.data import DataLoader, Dataset

from mmreid_text.datasets import ArraySampler, CaptionTable, TextReIDDataset, write_caption_table
from mmreid_text.datasets.caption_tokens import CHUNK_ROWS, Chunk, write_chunks
from mmreid_text.datasets.transforms.formatting import PackSample
from mmreid_text.datasets.transforms.masking import draw_masked_text
from mmreid_text.datasets.transforms.text import Tokenize
from mmreid_text.datasets.transforms.tokenizer import EOT, MASK, SOT, ClipTokenizer, get_tokenizer, read_merges
from mmreid_text.engine.noise_table import NoiseTable

LENGTH = 77
BATCH = 512
SAMPLES = 20_000
FEW_ROWS, ROWS = 100_000, 4_000_000
PLAIN_SHARE = 40
"""The reference's lists are filled with this fraction of the rows; its memory and start are multiplied."""
PIXEL = np.zeros((1, 1, 3), dtype=np.uint8)
SENTENCE = """
    A young man with short black hair is wearing a light grey t-shirt under a dark blue jacket, striped trousers and
    white sneakers. He carries a red backpack on both shoulders and holds an umbrella in his left hand, walking across
    the crosswalk with his side turned to the camera. The woman's coat is checked, her skirt long, her boots brown.
"""


class Blank(TextReIDDataset):
    """The data set without its images: one pixel for each."""

    def image_fields(self, row: int) -> dict[str, Any]:
        return {"img": PIXEL}


def run(rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        few, many = (write_table(Path(folder) / f"{rows}.arrow", rows) for rows in (FEW_ROWS, ROWS))
        growth = growth_rows(few, many, rounds)  # first: what the others leave behind takes a part of the caches
        return [tokenize_row(few, rounds), masking_row(rounds), *growth, *worker_rows(few, many)]


@cache
def captions() -> list[str]:
    """As many captions as a chunk has rows, of 30 to 60 words; a quarter of them with curly quotes and ``&``."""
    rng = np.random.default_rng(0)
    words = SENTENCE.split()
    texts = [" ".join(rng.choice(words, rng.integers(30, 60))).capitalize() + "." for _ in range(CHUNK_ROWS)]
    return [f"“{text}” & so on" if i % 4 == 0 else text for i, text in enumerate(texts)]


def write_table(path: Path, rows: int) -> CaptionTable:
    """A table of four captions per image and its tokens; the same captions over and over."""
    texts = pa.array(captions())
    tokens, ends = get_tokenizer().uncut(captions())

    def chunks() -> Iterator[dict[str, Any]]:
        for start in range(0, rows, CHUNK_ROWS):
            image = np.arange(start, min(start + CHUNK_ROWS, rows)) // 4
            names = [f"{i:08d}.jpg" for i in image]
            yield {"image": names, "caption": texts.slice(0, len(image)), "pid": image, "image_id": image}

    def tokenized(starts: range) -> Iterator[Chunk]:
        for start in starts:
            count = min(CHUNK_ROWS, rows - start)
            yield tokens[: ends[count]], ends[: count + 1]

    table = write_caption_table(path, chunks(), "benchmark", str(path.parent))
    write_chunks(table, tokenized)
    return table


class PlainTokenizer:
    """Byte-pair encoding as the published code does it: a regular expression, merges in Python, a cache of words."""

    def __init__(self, tokenizer: ClipTokenizer) -> None:
        self.ids = {token: i for i, token in enumerate(tokenizer.vocabulary)}
        self.rank = {pair: i for i, pair in enumerate(read_merges())}
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        rest = [byte for byte in range(256) if byte not in printable]
        self.letter = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(rest)}
        self.word = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)
        self.known: dict[str, list[str]] = {}

    def merge(self, word: str) -> list[str]:
        if word in self.known:
            return self.known[word]
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pairs = set(pairwise(parts))
            best = min(pairs, key=lambda pair: self.rank.get(pair, sys.maxsize))
            if best not in self.rank:
                break
            merged, i = [], 0
            while i < len(parts):
                both = tuple(parts[i : i + 2]) == best
                merged.append("".join(best) if both else parts[i])
                i += 1 + both
            parts = merged
        self.known[word] = parts
        return parts

    def __call__(self, caption: str) -> torch.Tensor:
        """int64 (LENGTH,)."""
        caption = html.unescape(html.unescape(ftfy.fix_text(caption))).strip()
        caption = regex.sub(r"\s+", " ", caption).strip().lower()
        tokens = [SOT]
        for word in regex.findall(self.word, caption):
            tokens += [self.ids[part] for part in self.merge("".join(self.letter[b] for b in word.encode()))]
        tokens.append(EOT)
        if len(tokens) > LENGTH:
            tokens = [*tokens[: LENGTH - 1], EOT]
        row = torch.zeros(LENGTH, dtype=torch.long)
        row[: len(tokens)] = torch.tensor(tokens)
        return row


def tokenize_row(table: CaptionTable, rounds: int) -> Row:
    """Token ids of one sample at a time, read from the mapped file, against Python BPE."""
    plain, step = PlainTokenizer(get_tokenizer()), Tokenize(LENGTH)
    dataset = Blank(table, [])
    mapped = dataset.tokens
    assert mapped is not None
    rows = np.random.default_rng(1).permutation(len(table))[:2_000].tolist()
    samples = [dataset[row] for row in rows]
    for sample in samples:
        assert (step(dict(sample))["text"] == plain(sample["caption"]).numpy()).all()

    def ours() -> None:
        for row in rows:  # with the look-up in the mapped file, not only the padding
            sample = {"caption": table.caption(row)}
            sample["token_ids"] = [(sample["caption"], mapped[row])]
            step(sample)

    jobs = {"ours": ours, "plain": lambda: [plain(table.caption(row)) for row in rows]}
    seconds = interleaved(jobs, rounds)
    return Row(
        "text per sample: token ids",
        "Python BPE with a cache of words",
        seconds["ours"],
        seconds["plain"],
        remark=_per_sample(seconds, len(rows)) + ", caption and ids read from the mapped files",
    )


def masking_row(rounds: int) -> Row:
    """Captions masked from the noise table in batches, against a loop over samples and tokens."""
    from mmreid_text.models.token_noise import masking_probability  # late: the models bring in much

    rng = np.random.default_rng(0)
    count = 4 * BATCH
    text = np.zeros((count, LENGTH), dtype=np.int64)
    for row, length in zip(text, rng.integers(15, LENGTH - 1, count)):
        row[0], row[1:length], row[length] = SOT, rng.integers(1, MASK, length - 1), EOT
    table = NoiseTable(count, "benchmark", LENGTH)
    table.write(np.arange(count), rng.integers(0, 256, (count, LENGTH), dtype=np.uint8))
    levels, order = table.rows / 127.5, rng.permutation(count)
    chance = masking_probability(torch.from_numpy(levels), torch.from_numpy(text), 0.15).numpy()
    expected = np.zeros_like(chance)
    for i, ids in enumerate(text.tolist()):
        chances = plain_chances(ids, levels[i].tolist(), 0.15)
        expected[i, 1 : 1 + len(chances)] = chances
    assert np.abs(chance - expected).max() < 1e-5

    def ours() -> None:
        for start in range(0, count, BATCH):
            ids = order[start : start + BATCH]
            batch = torch.from_numpy(text[ids])
            draw_masked_text(
                text[ids], masking_probability(table.read(ids, LENGTH), batch, 0.15).numpy(), ids, seed=0, epoch=1
            )

    seconds = interleaved({"ours": ours, "plain": lambda: plain_masking(text, levels, 0.15)}, rounds)
    remark = _per_sample(seconds, count) + f", batches of {BATCH}"
    return Row("text per sample: masking", "loop, a list of candidates per sample", *_both(seconds), remark=remark)


def plain_chances(ids: list[int], levels: list[float], p: float) -> list[float]:
    """Eq. 4 for the tokens between SOT and EOT."""
    own = levels[1 : ids.index(EOT)]
    mean = sum(own) / max(1, len(own))
    return [min(max(level - mean + p, 0.0), 1.0) for level in own]


def plain_masking(text: np.ndarray, noise: np.ndarray, p: float) -> list[list[int]]:
    """The 80/10/10 rule token by token, the ids that may be drawn listed anew for every sample."""
    masked = []
    for ids, levels in zip(text.tolist(), noise.tolist()):
        candidates = list(range(1, MASK))
        for j, chance in enumerate(plain_chances(ids, levels, p), start=1):
            if random.random() < chance:
                kind = random.random()
                if kind < 0.8:
                    ids[j] = MASK
                elif kind < 0.9:
                    ids[j] = random.choice(candidates)
        masked.append(ids)
    return masked


def growth_rows(few: CaptionTable, many: CaptionTable, rounds: int) -> list[Row]:
    """Batches as a worker makes them, without images: 4 M rows against 0.1 M, after all pages were seen once."""
    loaders = {}
    for name, table in (("ours", many), ("few", few)):
        dataset = Blank(table, [Tokenize(), PackSample()])
        for row in np.random.default_rng(2).integers(0, len(dataset), 5 * SAMPLES).tolist():
            dataset[row]
        loaders[name] = _endless(DataLoader(dataset, batch_size=64, sampler=ArraySampler(dataset, seed=0)))
        next(loaders[name])  # draws the order
    batches = SAMPLES // 64
    jobs = {name: (lambda loader=loader: [next(loader) for _ in range(batches)]) for name, loader in loaders.items()}
    seconds = interleaved(jobs, max(rounds, 7))
    growth = seconds["ours"] / seconds["few"] - 1
    remark = f"us per sample, collated: {1e6 * seconds['ours'] / SAMPLES:.1f} at 4 M rows, "
    remark += f"{1e6 * seconds['few'] / SAMPLES:.1f} at 0.1 M: {growth:+.0%}"
    return [Row("growth: time per sample at 4 M rows", "the same at 0.1 M rows", *_both(seconds, "few"), remark=remark)]


def _endless(loader: DataLoader) -> Iterator[Any]:
    while True:
        yield from loader


class PlainDataset(Dataset):
    """Rows as the published code holds them: a list of tuples of Python objects."""

    def __init__(self, table: CaptionTable, rows: int) -> None:
        self.rows = [(*table.ids(i), table.image(i), table.caption(i)) for i in range(rows)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        pid, image_id, path, caption = self.rows[index]
        return pid + image_id + len(path) + len(caption)


def worker_rows(few: CaptionTable, many: CaptionTable) -> list[Row]:
    """Opening the table and starting a worker, and what the worker holds alone after 400 batches of 64."""
    steps = [Tokenize(), PackSample()]
    plain_s, plain_mb, _ = start(lambda: PlainDataset(few, ROWS // PLAIN_SHARE), "fork", epochs=True)
    plain_s, plain_mb = PLAIN_SHARE * plain_s, PLAIN_SHARE * plain_mb
    rows = []
    for context in ("fork", "forkserver", "spawn"):
        base = start(lambda: Blank(few, steps), context)[1]
        seconds, own, first = start(lambda: Blank(CaptionTable.open(str(many.path)), steps), context)
        remark = f"{context}; opened in {seconds:.2f} CPU s, first batch after {first:.1f} s of wall clock; "
        remark += f"private memory of a worker: {own:.0f} MB, {base:.0f} MB at 0.1 M rows"
        row = Row(f"start and worker memory at 4 M rows, {context}", "lists of tuples (x 40), fork", seconds, plain_s)
        row.ours_mb, row.reference_mb, row.remark = own, plain_mb, remark
        rows.append(row)
    return rows


def start(make: Callable[[], Dataset], context: str, epochs: bool = False) -> tuple[float, float, float]:
    """CPU seconds until the data set stands, private MB of its worker, and seconds until the first batch came."""
    wall, cpu = time.perf_counter(), time.process_time()
    dataset = make()
    cpu = time.process_time() - cpu
    loader = DataLoader(
        dataset,
        batch_size=64,
        num_workers=1,
        sampler=ArraySampler(dataset, seed=0),  # type: ignore[arg-type]
        multiprocessing_context=context,
        persistent_workers=True,
    )
    batches = iter(loader)
    next(batches)
    wall = time.perf_counter() - wall
    for count, _ in enumerate(batches):  # a list's reference counts are written as its rows are read
        if count == 400 and not epochs:
            break
    own = private_mb(batches._workers[0].pid)  # type: ignore[attr-defined]
    return cpu, own, wall


def private_mb(pid: int) -> float:
    """MB that a process holds alone; unchanged pages of mapped files belong to the page cache."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def _both(seconds: dict[str, float], reference: str = "plain") -> tuple[float, float]:
    return seconds["ours"], seconds[reference]


def _per_sample(seconds: dict[str, float], count: int) -> str:
    return ", ".join(f"{name} {1e6 * value / count:,.1f} us" for name, value in seconds.items())
