"""What an indexing run did."""

from dataclasses import dataclass, field

SHOWN = 20


@dataclass
class IndexingReport:
    """Numbers and names of one run.

    Attributes:
        images: That can be found now.
        encoded: Read by the model in this run; ``resumed`` by an earlier one that was killed.
        unchanged: Known from before and not read.
        moved: Known under another name, or touched, and not encoded again.
        removed: Gone from the folder, or removed by name.
        duplicates: Name, and the name of the image with the same content that stands for it.
        unreadable: Name and reason.
        refused: Name and reason, of what was not even opened.
        seconds: Of the run.
        recall: Of an approximate store.
        unknown_metadata: Rows of the metadata table that name no image.
    """

    images: int = 0
    encoded: int = 0
    resumed: int = 0
    unchanged: int = 0
    moved: int = 0
    removed: int = 0
    duplicates: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    recall: dict[str, float] = field(default_factory=dict)
    unknown_metadata: int = 0

    def __str__(self) -> str:
        lines = []
        for title, names in (
            ("duplicate", {name: f"same content as {other}" for name, other in self.duplicates.items()}),
            ("unreadable", self.unreadable),
            ("refused", self.refused),
        ):
            lines += [f"{title}: {name}: {reason}" for name, reason in list(names.items())[:SHOWN]]
            if len(names) > SHOWN:
                lines.append(f"{title}: ... and {len(names) - SHOWN:,} more; --json lists all")
        rate = f", {self.encoded / self.seconds:,.0f} images/s" if self.encoded and self.seconds else ""
        lines.append(
            f"{self.images:,} images can be found: {self.encoded:,} encoded now, {self.resumed:,} by a run that was "
            f"stopped, {self.moved:,} moved or touched, {self.unchanged:,} unchanged; {self.removed:,} removed, "
            f"{len(self.duplicates):,} duplicates, {len(self.unreadable):,} unreadable, {len(self.refused):,} refused. "
            f"{self.seconds:.1f} s{rate}."
        )
        if self.recall:
            shares = ", ".join(f"{100 * share:.2f}% with {name}" for name, share in self.recall.items())
            lines.append(f"Recall@10 against the exact search, measured on this gallery: {shares} as queries.")
        if self.unknown_metadata:
            lines.append(f"{self.unknown_metadata:,} rows of the metadata name no image of the gallery.")
        return "\n".join(lines)
