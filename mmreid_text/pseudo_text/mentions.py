"""What the captions of a pseudo-text job speak of, counted over its score files."""

from pathlib import Path

import numpy as np

from mmreid_text.atomic_write import remove_leftovers, write_text
from mmreid_text.pseudo_text.job import PseudoTextJob
from mmreid_text.pseudo_text.score_files import read_scores, scores_of
from mmreid_text.pseudo_text.scoring import keep


def write_mentions(job: PseudoTextJob, out: Path) -> str:
    """Write ``attributes.md``: per attribute how many images may tell it, how surely, and of which class.

    Args:
        job: The job, whose shards are all finished.
        out: Its folder.

    Returns:
        The table, in Markdown.
    """
    vocabulary = job.build_vocabulary()
    remove_leftovers(out / "scores", "*")  # of killed processes
    images = 0
    certainty = np.zeros(len(vocabulary.slots))
    counts = [np.zeros(len(attribute.classes), np.int64) for attribute in vocabulary.attributes]
    for table in read_scores(out):
        best, probability = scores_of(table, vocabulary)
        images += len(best)
        readable = best[:, 0] >= 0
        told = keep(best[readable], probability[readable], vocabulary, job.threshold)
        certainty += np.where(told >= 0, probability[readable], 0).sum(axis=0, dtype=np.float64)
        for column, count in enumerate(counts):
            classes = told[:, column]
            count += np.bincount(classes[classes >= 0], minlength=len(count))
    lines = ["| attribute | images that tell it | mean probability | most often |", "| --- | ---: | ---: | --- |"]
    for attribute, count, sure in zip(vocabulary.attributes, counts, certainty.tolist()):
        total = int(count.sum())
        order = [i for i in np.argsort(-count, kind="stable")[:3] if count[i]]
        most = ", ".join(f"{attribute.classes[i].name} {count[i] / total:.0%}" for i in order)
        mean = f"{sure / total:.2f}" if total else ""
        lines.append(f"| {attribute.slot} | {total:,} ({total / max(images, 1):.1%}) | {mean} | {most} |")
    text = "\n".join(lines) + "\n"
    write_text(out / "attributes.md", text)
    return text
