"""What a scorer saw in each image, kept beside the captions for inspection."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmreid_text.datasets.arrow_files import write_arrow
from mmreid_text.pseudo_text.vocabulary import Vocabulary


def scores_path(out: Path, shard: int) -> Path:
    return out / "scores" / f"{shard:07d}.arrow"


def write_scores(
    out: Path, shard: int, vocabulary: Vocabulary, names: Sequence[str], best: np.ndarray, probability: np.ndarray
) -> None:
    """Write a shard's file: ``image``, and for each attribute ``<slot>``, the likeliest class, and ``<slot>_p``.

    Args:
        out: Folder of the job.
        shard: Number of the shard.
        vocabulary: Attributes and classes; the absence of an optional one is the class 'none'.
        names: n images.
        best: int64 (n, A), likeliest classes, -1 where the image could not be read.
        probability: float32 (n, A), theirs.
    """
    columns: dict[str, pa.Array] = {"image": pa.array(names, pa.string())}
    for i, attribute in enumerate(vocabulary.attributes):
        codes = pa.array(best[:, i].astype(np.int32), mask=best[:, i] < 0)
        classes = pa.array([each.name for each in attribute.classes], pa.string())
        columns[attribute.slot] = pa.DictionaryArray.from_arrays(codes, classes)
        columns[f"{attribute.slot}_p"] = pa.array(probability[:, i])
    batch = pa.record_batch(columns)
    path = scores_path(out, shard)
    path.parent.mkdir(exist_ok=True)
    write_arrow(path, batch.schema, [batch])


def scores_of(table: pa.Table, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """``best`` int64 (n, A) and ``probability`` float32 (n, A), as :func:`write_scores` took them, of a file's rows."""
    columns = [table.column(slot).combine_chunks().indices.fill_null(-1) for slot in vocabulary.slots]
    best = np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)
    probability = np.stack([table.column(f"{slot}_p").to_numpy() for slot in vocabulary.slots], axis=1)
    return best.astype(np.int64), probability


def read_scores(out: Path) -> Iterator[pa.Table]:
    """The files of a job, shard by shard.

    Raises:
        FileNotFoundError: The folder has none.
    """
    paths = sorted((out / "scores").glob("[0-9]*.arrow"))
    if not paths:
        raise FileNotFoundError(f"{out / 'scores'} holds no scores: is {out} the folder of a pseudo-text job?")
    for path in paths:
        with pa.OSFile(str(path)) as file:
            yield pa.ipc.open_file(file).read_all()
