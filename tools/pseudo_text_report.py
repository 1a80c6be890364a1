"""How right a pseudo-text job's scorer is: drawn people, whose attributes are known, are scored as the job would.

    python tools/pseudo_text_report.py configs/unipt/pseudo_text_procedural.py --out work_dirs/pseudo_text_report

Writes accuracy.md and accuracy.json: per attribute the accuracy; and at the job's scale, and at the one that suits
validation people best, how sure the scorer is where it is right, and what thresholds keep of optional attributes.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from mmreid_text.atomic_write import write_text
from mmreid_text.procedural.domains import DOMAINS, World
from mmreid_text.pseudo_text.accuracy import as_markdown, calibrated_scale, measure
from mmreid_text.pseudo_text.job import PseudoTextJob
from mmreid_text.pseudo_text.procedural_truth import truth_of
from mmreid_text.pseudo_text.scoring import ImageTextEncoder, PromptScorer, load_encoder


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        job = PseudoTextJob.from_file(args.config)
        vocabulary = job.build_vocabulary()
        device = job.device if job.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        encoder = load_encoder(job.scorer, device)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    scorer = PromptScorer(encoder, vocabulary, job.scale)
    cosines, truth = {}, {}
    for split in ("val", "test"):
        world = World(args.domain, args.people, images_per_id=1, seed=args.seed, size=(128, 64), split=split)
        cosines[split] = torch.cat([scorer.cosines(batch) for batch in batches(world, encoder, job.batch_size)])
        truth[split] = truth_of(world, range(len(world)), vocabulary)
    calibrated = calibrated_scale(cosines["val"], truth["val"], vocabulary)
    facts = measure(cosines["test"], truth["test"], vocabulary, sorted({job.scale, calibrated}, reverse=True))
    facts |= {"calibrated_scale": calibrated, "domain": args.domain, "people": args.people, "seed": args.seed}
    args.out.mkdir(parents=True, exist_ok=True)
    text = as_markdown(facts, job.threshold)
    write_text(args.out / "accuracy.md", text)
    write_text(args.out / "accuracy.json", json.dumps(facts, indent=1))
    print(text)
    print(f"Report: {args.out / 'accuracy.md'} and accuracy.json; calibrated on other people: scale {calibrated:g}")
    return 0


def batches(world: World, encoder: ImageTextEncoder, size: int) -> Iterator[torch.Tensor]:
    """Pictures as the model reads them, uint8 (B, 3, H, W)."""
    for start in tqdm(range(0, len(world), size), f"scoring {world.stream}", unit="batch", delay=2):
        rows = range(start, min(start + size, len(world)))
        yield torch.stack([encoder.prepare(world.render(row)) for row in rows])


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of a pseudo-text job: its scorer, vocabulary, scale and threshold count")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument(
        "--domain", choices=list(DOMAINS), default="source", help="of the drawn people (default source)"
    )
    parser.add_argument(
        "--people", type=int, default=1000, help="people of each split, one picture each (default 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the people (default 0)")
    args = parser.parse_args(argv)
    if args.people < 1:
        parser.error(f"--people {args.people} must be at least 1")
    return args


if __name__ == "__main__":
    sys.exit(main())
