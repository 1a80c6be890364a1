"""Write the vocabulary that a config's tokenizer names, from the captions that the config trains on.

    python tools/build_vocab.py configs/cmmt/resnet50_cuhk.py

For text encoders that are trained from nothing; captions of other splits are not read. Equal captions give equal files.
"""

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmreid_text.datasets.transforms.wordpiece import write_vocabulary
from mmreid_text.datasets.transforms.words import write_words
from mmreid_text.engine.config import check_data, error_text, load_config
from mmreid_text.registry import DATASETS

WRITERS = {"WordTokenizer": write_words, "WordPieceTokenizer": write_vocabulary}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="training config")
    parser.add_argument("--out", type=Path, help="file to write; what the config's tokenizer names unless told")
    parser.add_argument("--size", type=int, help="most ids; the tokenizer's vocab_size, or its writer's default")
    args = parser.parse_args()
    try:
        cfg = load_config(args.config)
        check_data(cfg, ("train_dataloader",))
        tokenizer = find_tokenizer(cfg.train_dataloader.dataset, args.config)
        out = args.out or Path(tokenizer["vocab"])
        if not args.out and not out.suffix:  # else a file of that name would stand for BERT's from then on
            raise ValueError(f"{args.config}: its tokenizer names {out}, which is no text file: say --out words.txt.")
        size = args.size or tokenizer.get("vocab_size")
        dataset = DATASETS.build(without_pipelines(cfg.train_dataloader.dataset))
        rows = tqdm(range(dataset.num_captions), desc="captions", unit="caption", delay=2)
        os.makedirs(out.parent, exist_ok=True)
        options = {"size": size} if size else {}
        count = WRITERS[tokenizer["type"]](out, (dataset.caption(row) for row in rows), **options)
    except (OSError, KeyError, ValueError) as error:
        parser.exit(1, f"error: {error_text(error)}\n")
    print(f"{count:,} entries in {out}, from {dataset.num_captions:,} captions of {dataset.name}")


def find_tokenizer(dataset: Mapping[str, Any], config: str) -> dict[str, Any]:
    """The tokenizer's config in the training pipeline.

    Raises:
        ValueError: There is none whose vocabulary is made from captions.
    """
    for step in pipeline_steps(dataset):
        tokenizer = step.get("tokenizer")
        if tokenizer and tokenizer.get("type") in WRITERS:
            return dict(tokenizer)
    raise ValueError(
        f"{config}: no Tokenize of the training pipeline has a tokenizer of type {' or '.join(WRITERS)}; CLIP's "
        "vocabulary is fixed."
    )


def pipeline_steps(dataset: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Transforms of a data set's pipeline, or of all its members'."""
    if "datasets" in dataset:
        for member in dataset["datasets"]:
            yield from pipeline_steps(member)
    else:
        yield from dataset["pipeline"]


def without_pipelines(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The same data set with nothing to do per sample: its tokenizer lacks the file that is made here."""
    if "datasets" in dataset:
        return {**dataset, "datasets": [without_pipelines(member) for member in dataset["datasets"]]}
    return {**dataset, "pipeline": []}


if __name__ == "__main__":
    main()
