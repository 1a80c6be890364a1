"""Procedural people as a folder of crops, as a detector would leave them: something to search without any data."""

import csv
import io
import os
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmreid_text.atomic_write import write_text, written_beside
from mmreid_text.file_lock import alone
from mmreid_text.procedural.cache import fingerprint
from mmreid_text.procedural.domains import World
from mmreid_text.randomness import uniform

DOMAINS = ("street", "mall", "station")
METADATA = "crops.csv"
_CODE = "drawn.txt"
_SIZE = (240, 96)  # natural proportions
_HOURS = (6, 22)
_JPEG_QUALITY = 92
_DRAWING = ("attributes", "bags", "body", "clothes", "crops", "domains", "draw", "figure", "head", "palette", "person")


def draw_crops(folder: str | os.PathLike[str], num_ids: int = 300, progress: bool = True) -> tuple[Path, Path]:
    """Draw the test people of the three target domains: a JPEG for each of their pictures, and what is known of it.

    What is there already stays, so a run that was stopped goes on; crops of an older drawing code are drawn anew.

    Args:
        folder: Where ``crops/`` and the CSV file :data:`METADATA` are put. Its columns are ``path``, ``domain``,
            ``camera`` (1 to 3, the number of the person's picture) and ``hour`` (6 to 21, made up).
        num_ids: People of each domain.
        progress: Whether to show a bar when it takes longer than two seconds.

    Returns:
        Folder of the images, and the CSV file.
    """
    root, table = Path(folder) / "crops", Path(folder) / METADATA
    root.mkdir(parents=True, exist_ok=True)
    with alone(root.with_name("crops.lock"), f"Another process draws the people of {folder}: wait for it"):
        code, note = fingerprint(list(_SIZE), _DRAWING), root.with_name(_CODE)
        before = note.read_text() if note.is_file() else None
        if before != code:
            for path in root.glob("*/*.jpg") if before else ():  # without the note they are not ours
                path.unlink()
            write_text(note, code)
        worlds = [World(domain, num_ids, size=_SIZE, split="test") for domain in DOMAINS]
        rows: list[tuple[str, str, int, int]] = []
        bar = tqdm(total=sum(map(len, worlds)), desc="drawing people", unit="image", delay=2, disable=not progress)
        with bar:
            for world in worlds:
                rows += _draw_world(world, root, bar)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("path", "domain", "camera", "hour"))
        writer.writerows(rows)
        if not table.is_file() or table.read_text(encoding="utf-8") != text.getvalue():
            write_text(table, text.getvalue())
    return root, table


def _draw_world(world: World, root: Path, bar: tqdm) -> list[tuple[str, str, int, int]]:
    domain = world.domain.name
    (root / domain).mkdir(exist_ok=True)
    hours = uniform(world.seed, 0, np.arange(len(world)), f"{world.stream}/hour", 1)[:, 0]
    rows = []
    for index in range(len(world)):
        camera = index % world.images_per_id + 1
        name = f"{domain}/{world.pid[index]:04d}_c{camera}.jpg"
        if not (root / name).is_file():
            bgr = cv2.cvtColor(world.render(index), cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            with written_beside(root / name) as beside:
                beside.write_bytes(data.tobytes())
        hour = _HOURS[0] + int(hours[index] * (_HOURS[1] - _HOURS[0]))
        rows.append((name, domain, camera, hour))
        bar.update()
    return rows
