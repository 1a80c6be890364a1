"""The end of a captioning job: shards become one caption table, reports, and the published JSON layout."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from mmreid_text.atomic_write import remove_leftovers, write_text, written_beside
from mmreid_text.captioning.cleaning_report import CleaningReport
from mmreid_text.captioning.sharded_job import ShardedJob
from mmreid_text.captioning.shards import COUNTS, FAILED, OK, JobFolder
from mmreid_text.datasets.caption_rows import Columns
from mmreid_text.datasets.caption_table import CaptionTable, write_caption_table
from mmreid_text.file_lock import alone


def table_path(out: Path) -> Path:
    """The caption table of a job: ``<out>.arrow``."""
    return out.with_name(f"{out.name}.arrow")


def join(job: ShardedJob, folder: JobFolder) -> dict[str, Any]:
    """Write the caption table and the reports of a job whose shards are all finished.

    Beside the table, in the folder: ``rejected-<source>.jsonl`` (every rejected answer), ``failed.jsonl`` (captions
    that there are none of, with the reason), ``report.json`` and ``report.md``. What is whole already stays.

    Returns:
        The content of ``report.json``: counts per source and in all, and what cleaning found.

    Raises:
        ValueError: A shard is damaged, or no caption has come out.
    """
    path, report = table_path(folder.out), folder.out / "report.json"
    with alone(folder.out / "join.lock"):
        if not (path.exists() and report.exists()):
            _write(job, folder, path, report)
        # Each process that comes here does: one that was still at work may have left word after another tidied up.
        folder.tidy()
        return json.loads(report.read_text())


def _write(job: ShardedJob, folder: JobFolder, path: Path, report: Path) -> None:
    remove_leftovers(folder.out, "*.jsonl")
    joining = _Joining(job, folder)
    with ExitStack() as stack:
        aside = {
            name: stack.enter_context(stack.enter_context(written_beside(folder.out / name)).open("w"))
            for name in [f"rejected-{source}.jsonl" for source in job.source_names] + ["failed.jsonl"]
        }
        facts = {"captioning": job.stamp()}
        with suppress(_NoCaptions):  # told below, after the reasons are written
            write_caption_table(path, joining.chunks(aside), job.name, job.build_images().root, job.source_names, facts)
        for file in aside.values():
            file.flush()
    write_text(folder.out / "report.md", joining.markdown())
    write_text(report, json.dumps(joining.facts(), indent=1, ensure_ascii=False))
    if not joining.images:
        raise ValueError(
            f"Not one caption has come out of {folder.out}: failed.jsonl and rejected-*.jsonl there say why. Mend "
            "the cause and take another --out, or delete that folder."
        )


class _NoCaptions(Exception):
    """There is no row for the table."""


class _Joining:
    """Rows of all shards as they pass into the table."""

    def __init__(self, job: ShardedJob, folder: JobFolder) -> None:
        self.job, self.folder = job, folder
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in job.source_names}
        self.images = 0
        self.cleaning = CleaningReport()

    def chunks(self, aside: Mapping[str, IO[str]]) -> Iterator[Columns]:
        """Rows of the caption table, shard by shard; the others go to the files ``aside``."""
        for shard in tqdm(range(self.folder.num_shards), "joining", unit="shard", delay=2):
            rows = self.folder.read(shard)
            self._count(shard, rows, aside)
            kept = rows.filter(pc.not_equal(rows.column("status").dictionary_decode(), FAILED))
            if not kept.num_rows:
                continue
            image = kept.column("image").dictionary_encode().indices.to_numpy().astype(np.int64)  # in order of coming
            image_id = image + self.images
            self.images = int(image_id[-1]) + 1
            yield {
                "image": kept.column("image"),
                "caption": kept.column("caption"),
                "source": kept.column("source").dictionary_decode(),
                "pid": image_id,
                "image_id": image_id,
                "split": "train",
            }
        if not self.images:
            raise _NoCaptions

    def facts(self) -> dict[str, Any]:
        total = sum(self.counts.values(), Counter())
        return {
            "images": len(self.folder.images),
            "images with captions": self.images,
            "total": {key: total[key] for key in COUNTS},
            "sources": {name: {key: counts[key] for key in COUNTS} for name, counts in self.counts.items()},
            "cleaning": self.cleaning.as_dict(),
        }

    def markdown(self) -> str:
        lines = ["| source | ok | replaced | failed | answers | tokens read | tokens written |"]
        lines.append("| --- |" + " ---: |" * 6)
        for name, counts in self.counts.items():
            lines.append(f"| {name} | " + " | ".join(f"{counts[key]:,}" for key in COUNTS) + " |")
        return "\n".join(lines) + "\n\n" + self.cleaning.as_markdown()

    def _count(self, shard: int, rows: pa.RecordBatch, aside: Mapping[str, IO[str]]) -> None:
        source, status = (rows.column(key).dictionary_decode() for key in ("source", "status"))
        sums = ("attempts", "prompt_tokens", "completion_tokens")
        table = pa.table({"source": source, "status": status, **{key: rows.column(key) for key in sums}})
        told = table.group_by(["source", "status"]).aggregate([([], "count_all"), *((key, "sum") for key in sums)])
        for group in told.to_pylist():
            counts = self.counts[group["source"]]
            counts[group["status"]] += group["count_all"]
            for key in sums:
                counts["answers" if key == "attempts" else key] += group[f"{key}_sum"]
            if group["status"] == OK:
                self.cleaning.accepted += group["count_all"]
        rejected = pc.greater(pc.list_value_length(rows.column("rejected")), 0)
        for row in rows.filter(pc.or_(rejected, pc.equal(status, FAILED))).to_pylist():
            source = row["source"]
            for answer in row["rejected"]:
                self.cleaning.add(answer["rule"], f"{row['image']} {source}", answer["text"])
                line = {"image": row["image"], **answer, "caption": row["status"]}
                aside[f"rejected-{source}.jsonl"].write(json.dumps(line, ensure_ascii=False) + "\n")
            if row["status"] == FAILED:
                line = {key: row[key] for key in ("image", "source", "reason", "detail", "attempts")} | {"shard": shard}
                aside["failed.jsonl"].write(json.dumps(line, ensure_ascii=False) + "\n")


def publish(table: CaptionTable, root: Path) -> list[Path]:
    """Write LUPerson-MLLM's caption files, ``<root>/captions/<source>.json``: one object of image path to caption each.

    Returns:
        The files, one per source.
    """
    paths = [root / "captions" / f"{source}.json" for source in table.sources]
    with ExitStack() as stack:
        stack.enter_context(alone(root / "captions" / ".publish.lock"))  # processes of other machines may share it
        files = {
            source: stack.enter_context(stack.enter_context(written_beside(path)).open("w", encoding="utf-8"))
            for source, path in zip(table.sources, paths)
        }
        between = dict.fromkeys(files, "{\n")
        for part in table.columns():
            columns = (part[key].to_pylist() for key in ("image", "caption", "source"))
            for image, caption, source in zip(*columns):
                pair = f"{json.dumps(image, ensure_ascii=False)}: {json.dumps(caption, ensure_ascii=False)}"
                files[source].write(between[source] + pair)
                between[source] = ",\n"
        for source, file in files.items():
            file.write("{}\n" if between[source] == "{\n" else "\n}\n")
    return paths
