"""Arrow files that are whole or not there, with facts about their content in the schema."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmreid_text.atomic_write import written_beside

META = b"mmreid_text"
"""Key of the schema's metadata under which the facts stand, in JSON."""


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], facts: Any = None) -> None:
    """Write record batches of ``schema`` as an Arrow IPC file, with ``facts``, in JSON types, in its metadata."""
    full = schema.with_metadata({META: json.dumps(facts)})
    with written_beside(path) as beside, pa.OSFile(str(beside), "wb") as sink, pa.ipc.new_file(sink, full) as writer:
        for batch in batches:
            writer.write_batch(batch)


def facts_of(schema: pa.Schema) -> Any:
    """The facts in a schema's metadata.

    Raises:
        KeyError: There are none.
        ValueError: They are damaged.
    """
    return json.loads((schema.metadata or {})[META])
