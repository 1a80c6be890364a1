"""A folder of work files beside a file in the making, which a killed job goes on from."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmreid_text.atomic_write import write_text
from mmreid_text.file_lock import alone


@contextmanager
def work_folder(target: Path, stamp: dict[str, Any]) -> Iterator[Path]:
    """The folder ``<target>.work``: removed when the block ends well, kept when it is killed.

    Removed, too, when the block finds the inputs wrong (FileNotFoundError, ValueError): what was read of them is
    worthless once they are mended.

    Args:
        target: The file that the work files are for.
        stamp: What they depend on, in JSON types. Files of another stamp are removed first.

    Raises:
        ValueError: Another process works there.
    """
    folder = _path(target)
    refusal = f"Another process is writing {target}: wait for it, or end it and run the same command again"
    with alone(folder / "lock", refusal):
        known, text = folder / "stamp.json", json.dumps(stamp, sort_keys=True)
        if not known.exists() or known.read_text() != text:
            for leftover in folder.iterdir():
                if leftover.name != "lock":
                    leftover.unlink()
            write_text(known, text)
        try:
            yield folder
        except (FileNotFoundError, ValueError):
            remove_work_folder(target)
            raise
        remove_work_folder(target)


def remove_work_folder(target: Path) -> None:
    """Remove what a job left that was killed between finishing ``target`` and tidying up."""
    shutil.rmtree(_path(target), ignore_errors=True)


def _path(target: Path) -> Path:
    return target.with_name(target.name + ".work")
