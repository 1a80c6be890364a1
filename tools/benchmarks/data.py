"""Images on their way to the model: decoding and augmenting on a worker, handing over, normalising; and the store."""

import pickle
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch
import torchvision.transforms as tv
import torchvision.transforms.functional as tvf
from benchmarks.common import Job, Row, interleaved, peak_memory
from PIL import Image
from torch.utils.data import default_collate

from mmreid_text.datasets.image_packing import PackSettings, list_images, names_hash, pack_images, write_rows
from mmreid_text.datasets.image_store import INDEX, INDEX_SCHEMA, ImageStore, name_hash
from mmreid_text.datasets.transforms import LoadImage, PackSample, PadCrop, RandomErasing, RandomFlip, Resize
from mmreid_text.models.data_preprocessor import CLIP_MEAN, CLIP_STD, ReIDDataPreprocessor
from mmreid_text.procedural.domains import World

IMAGES = 400
BATCH = 64
SIZE = (384, 128)
PADDING = 10
INDEX_NAMES = 1_000_000
LOOK_UPS = 10_000
TEXT = np.array([49406, 320, 49407] + [0] * 74)
Batch = dict[str, torch.Tensor]
Batches = Callable[[], Iterator[Batch]]


def draw_images(folder: Path) -> list[str]:
    """JPEGs of drawn people, of the sizes of crops from street cameras: about 68 kpx and 27 kB each."""
    rng = np.random.default_rng(0)
    names = []
    for i in range(IMAGES):
        width = int(rng.integers(100, 246))
        size = (int(width * rng.uniform(1.6, 2.5)), width)
        pixels = World("street", 1, 1, seed=i, size=size).render(0)
        _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        names.append(f"{i:04d}.jpg")
        (folder / names[-1]).write_bytes(data.tobytes())
    return names


def pack(folder: Path, out: Path, resize: list[int] | None = None) -> ImageStore:
    names = list_images(folder)
    pack_images(names, PackSettings("people", str(folder), names_hash(names), resize), out)
    return ImageStore(out)


def plain_worker(folder: Path, names: list[str]) -> Iterator[Batch]:
    """The published recipe: Pillow and torchvision, normalised and erased as float32 on the worker."""
    steps = tv.Compose(
        [
            tv.Resize(SIZE),
            tv.RandomHorizontalFlip(0.5),
            tv.Pad(PADDING),
            tv.RandomCrop(SIZE),
            tv.ToTensor(),
            tv.Normalize(CLIP_MEAN, CLIP_STD),
            tv.RandomErasing(scale=(0.02, 0.4), value=CLIP_MEAN),
        ]
    )
    text = torch.from_numpy(TEXT)
    samples = (
        {"image": steps(Image.open(folder / name).convert("RGB")), "text": text, "pid": 0, "image_id": i}
        for i, name in enumerate(names)
    )
    return collated(samples)


def our_worker(fields: Callable[[str], dict[str, Any]], names: list[str], backend: str) -> Iterator[Batch]:
    """The pipeline of the configs, text left out."""
    steps = [LoadImage(), Resize(SIZE, backend), RandomFlip(0.5), PadCrop(PADDING), RandomErasing(0.5), PackSample()]

    def sample(i: int, name: str) -> dict[str, Any]:
        result = {**fields(name), "text": TEXT, "pid": 0, "image_id": i, "caption_id": i, "draw_key": (0, 0, i)}
        for step in steps:
            result = step(result)
        return result

    return collated(sample(i, name) for i, name in enumerate(names))


def collated(samples: Iterator[dict[str, Any]]) -> Iterator[Batch]:
    while batch := list(islice(samples, BATCH)):
        yield default_collate(batch)


def consume(batches: Batches, use: Callable[[Batch], object] = len) -> None:
    """Take batches as a training step does: one at a time, none kept."""
    for batch in batches():
        use(batch)


def from_store(store: ImageStore, name: str) -> dict[str, Any]:
    return {"img_path": name, "img_bytes": store.read(name)}


def check_same(folder: Path, names: list[str]) -> None:
    """The recipe's functions with our draws must give our images, to 0.1 of 255 on average and 1 at most."""
    fields = lambda name: {"img_path": str(folder / name)}  # noqa: E731
    steps = [LoadImage(), Resize(SIZE), RandomFlip(0.5), PadCrop(PADDING), RandomErasing(0.5)]
    batch = next(our_worker(fields, names, "pillow"))
    got = ReIDDataPreprocessor()(batch, True)["image"]
    for i, name in enumerate(names[:BATCH]):
        key = {"draw_key": (0, 0, i)}
        flip = steps[2].draw(key, 1)[0] < 0.5
        top, left = (int(draw * (2 * PADDING + 1)) for draw in steps[3].draw(key, 2))
        image = tvf.resize(Image.open(folder / name).convert("RGB"), list(SIZE))
        image = tvf.pad(tvf.hflip(image) if flip else image, PADDING)
        expected = tvf.normalize(tvf.to_tensor(tvf.crop(image, top, left, *SIZE)), CLIP_MEAN, CLIP_STD)
        top, left, height, width = batch["erase_box"][i].tolist()
        expected = tvf.erase(expected, top, left, height, width, torch.tensor(CLIP_MEAN)[:, None, None])
        gap = (got[i] - expected).abs() * torch.tensor(CLIP_STD)[:, None, None] * 255
        assert gap.mean() <= 0.1, f"{name}: mean difference {gap.mean():.3f} of 255"
        assert gap.max() < 1.01, f"{name}: largest difference {gap.max():.2f} of 255"


def plain_normalise(batch: Batch) -> torch.Tensor:
    """The batch as tensor code is usually written: an expression per step and a mask for every image."""
    image = (batch["image"].float() / 255 - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(
        3, 1, 1
    )
    top, left, height, width = (side.view(-1, 1, 1, 1) for side in batch["erase_box"].unbind(1))
    y, x = torch.arange(SIZE[0]).view(-1, 1), torch.arange(SIZE[1])
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
    return torch.where(inside, torch.tensor(CLIP_MEAN).view(3, 1, 1), image)


def random_batch() -> Batch:
    image = torch.randint(0, 256, (BATCH, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    erasing, empty = RandomErasing(0.5), np.zeros((*SIZE, 3), dtype=np.uint8)
    boxes = [erasing({"img": empty, "draw_key": (0, 0, i)})["erase_box"] for i in range(BATCH)]
    text = torch.from_numpy(TEXT).expand(BATCH, -1)
    return {"image": image, "erase_box": torch.from_numpy(np.stack(boxes)), "text": text}


def write_index(folder: Path) -> list[str]:
    """Index of a store, and the same as a pickled dict; returns the names to look up."""
    names = [f"images/{i:07d}_{i % 3}.jpg" for i in range(INDEX_NAMES)]
    count = np.arange(INDEX_NAMES)
    hashes = np.array([name_hash(name) for name in names], dtype=np.uint64)
    columns = [hashes, pa.array(names, pa.large_string()), count // 30_000, count % 30_000 * 28_000, count % 50_000]
    arrays = [pa.array(column).cast(field.type) for column, field in zip(columns, INDEX_SCHEMA)]
    rows = pa.table([*arrays, pa.array([""] * INDEX_NAMES)], schema=INDEX_SCHEMA)
    info = {"shards": [f"{i}.tar" for i in range(INDEX_NAMES // 30_000 + 1)], "left_out": 0}
    write_rows(folder / INDEX, rows.take(pa.array(np.argsort(hashes))).combine_chunks(), info)
    places = dict(zip(names, zip(*(column.tolist() for column in columns[2:]))))
    (folder / "places.pkl").write_bytes(pickle.dumps(places))
    return names[:: INDEX_NAMES // LOOK_UPS]


def look_up(folder: Path, names: list[str]) -> list[tuple[int, int, int]]:
    index = ImageStore(folder).index
    rows = [index.find(name) for name in names]
    return [index.place(row) for row in rows if row is not None]


def plain_look_up(folder: Path, names: list[str]) -> list[tuple[int, int, int]]:
    places = pickle.loads((folder / "places.pkl").read_bytes())
    return [places[name] for name in names]


def memory_job(name: str, argument: str) -> Job:
    """``normalise`` or ``index``, of ``ours`` or ``plain``."""
    if argument == "normalise":
        batch, preprocess = random_batch(), ReIDDataPreprocessor()
        return partial(preprocess, batch) if name == "ours" else partial(plain_normalise, batch)
    temporary = tempfile.TemporaryDirectory()
    names = write_index(Path(temporary.name))
    job = look_up if name == "ours" else plain_look_up
    return lambda: job(Path(temporary.name), names)  # keeps the folder until the process ends


def run_worker(rounds: int, folder: Path) -> list[Row]:
    names = draw_images(folder / "images")
    check_same(folder / "images", names)
    store, small = pack(folder / "images", folder / "store"), pack(folder / "images", folder / "small", list(SIZE))
    files = lambda name: {"img_path": str(folder / "images" / name)}  # noqa: E731
    workers: dict[str, Batches] = {
        "plain": partial(plain_worker, folder / "images", names),
        "ours": partial(our_worker, files, names, "pillow"),
        "OpenCV's resize": partial(our_worker, files, names, "cv2"),
        "from shards": partial(our_worker, partial(from_store, store), names, "pillow"),
        "from shards, resized when packed": partial(our_worker, partial(from_store, small), names, "pillow"),
    }
    preprocess = ReIDDataPreprocessor()
    jobs: dict[str, Job] = {key: partial(consume, batches) for key, batches in workers.items()}
    for key, label in (
        ("ours", "normalised on this CPU"),
        ("OpenCV's resize", "OpenCV's resize, normalised on this CPU"),
    ):
        jobs[label] = partial(consume, workers[key], preprocess)
    seconds = interleaved(jobs, rounds)
    size = {key: sum(t.nbytes for batch in workers[key]() for t in batch.values()) for key in ("plain", "ours")}
    reference = "Pillow, torchvision, float32"
    rows = []
    for key, value in seconds.items():
        if key == "plain":
            continue
        label = "Pillow's pixels" if key == "ours" else key
        remark = f"us per image: ours {value / IMAGES * 1e6:,.0f}, reference {seconds['plain'] / IMAGES * 1e6:,.0f}"
        rows.append(Row(f"image worker, {label}", reference, value, seconds["plain"], remark=remark))
    rows[0].remark += f"; bytes to the main process: 1/{size['plain'] / size['ours']:.2f}"
    return rows


def run(rounds: int) -> list[Row]:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "images").mkdir()
        rows = run_worker(rounds, folder)
        batch, preprocess = random_batch(), ReIDDataPreprocessor()
        torch.testing.assert_close(preprocess(batch)["image"], plain_normalise(batch), atol=2e-6, rtol=1e-6)
        jobs: dict[str, Job] = {"ours": lambda: preprocess(batch), "plain": lambda: plain_normalise(batch)}
        seconds = interleaved(jobs, rounds)
        memory = {name: peak_memory("data", name, "normalise") for name in jobs}
        part, reference = f"normalise and erase {BATCH} images", "an expression per step, mask"
        moved = float(5 * batch["image"].numel())
        rows.append(Row(part, reference, *seconds.values(), *memory.values(), ours_bytes=moved, reference_bytes=moved))
        names = write_index(folder)
        assert look_up(folder, names) == plain_look_up(folder, names)
        jobs = {"ours": partial(look_up, folder, names), "plain": partial(plain_look_up, folder, names)}
        seconds = interleaved(jobs, rounds)
        memory = {name: peak_memory("data", name, "index") for name in jobs}
        part = f"open an index of {INDEX_NAMES:,} images, find {LOOK_UPS:,}"
        rows.append(Row(part, "pickled dict", *seconds.values(), *memory.values(), "ours: pages of the file, shared"))
    return rows
