"""What all processes of a captioning job have done together, read from its folder."""

from collections import Counter

from tqdm import tqdm

from mmreid_text.captioning.shards import FAILED, OK, REPLACED, JobFolder


class JobProgress:
    """Counts over finished shards, each read once, and what processes tell of their open ones.

    Args:
        folder: The job's folder, with the images listed.
        num_sources: Captions per image.
    """

    def __init__(self, folder: JobFolder, num_sources: int) -> None:
        self.folder = folder
        self.total = num_sources * len(folder.images)
        self._sum: Counter[str] = Counter()
        self._read: set[int] = set()

    def counts(self) -> Counter[str]:
        """``ok``, ``replaced``, ``failed``, ``answers``, ``prompt_tokens`` and ``completion_tokens`` so far."""
        for shard in self.folder.finished() - self._read:
            self._sum += self.folder.counts_of(shard)
            self._read.add(shard)
        told = self.folder.told()
        return sum((told[shard] for shard in told.keys() - self._read), Counter(self._sum))

    @property
    def done(self) -> bool:
        return len(self.folder.finished()) == self.folder.num_shards

    def bar(self) -> "tqdm[None]":
        """A bar with rate and estimated end, to be moved on by :meth:`show`."""
        return tqdm(total=self.total, initial=captions_of(self.counts()), unit="caption", desc=self.folder.out.name)

    def show(self, bar: "tqdm[None]") -> None:
        counts = self.counts()
        told = f"failed {counts[FAILED]:,}"
        if counts["completion_tokens"]:
            read, written = (f"{counts[key] / 1e6:,.2f} M" for key in ("prompt_tokens", "completion_tokens"))
            again = counts["answers"] - captions_of(counts)
            told += f", asked again {max(again, 0):,}, tokens {read} + {written}"
        bar.set_postfix_str(told, False)
        bar.update(max(captions_of(counts) - bar.n, 0))


def captions_of(counts: Counter[str]) -> int:
    """Captions that are decided."""
    return counts[OK] + counts[REPLACED] + counts[FAILED]
