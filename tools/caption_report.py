"""How diverse and how clean the captions of one table are, or of two side by side.

    python tools/caption_report.py captions.arrow --out work_dirs/report
    python tools/caption_report.py static.arrow dynamic.arrow

Writes diversity.md, diversity.json and diversity.png. Rows of unequal size are measured on samples of one size.
"""

import argparse
from pathlib import Path

from mmreid_text.captioning.cleaning import CleaningContext
from mmreid_text.captioning.cleaning_report import check_table_captions
from mmreid_text.captioning.diversity import measure_table, views_of
from mmreid_text.captioning.diversity_report import write_report
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.engine.config import error_text
from mmreid_text.visualization.diversity_plots import plot_diversity


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="caption table (.arrow)")
    parser.add_argument("other", type=Path, nargs="?", help="a second one to compare")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/caption_report"), help="folder of the report")
    parser.add_argument("--split", help="this split alone")
    parser.add_argument("--sample", type=int, default=50_000, help="captions of a source for n-grams and patterns")
    parser.add_argument("--bleu-sample", type=int, default=1_000, help="captions of the sample for self-BLEU")
    parser.add_argument("--min-words", type=int, default=CleaningContext.min_words, help="cleaning rule 'short'")
    parser.add_argument("--max-words", type=int, default=CleaningContext.max_words, help="cleaning rule 'long'")
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        context = CleaningContext(min_words=args.min_words, max_words=args.max_words)
        tables = {}
        for path in (args.table, args.other):
            if path is not None:
                table = CaptionTable.open(path)
                tables[_label(path, tables)] = table.split(args.split) if args.split else table
        smallest = min(len(view) for table in tables.values() for view in views_of(table).values())
        sample = min(args.sample, smallest)
        bleu_sample = min(args.bleu_sample, sample)
        sets = {name: measure_table(table, sample, bleu_sample, args.seed) for name, table in tables.items()}
        cleaning = {
            name: check_table_captions(table, args.sample, context, args.seed) for name, table in tables.items()
        }
        print(write_report(sets, cleaning, args.out))
        plot_diversity(sets, args.out / "diversity.png")
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise SystemExit(f"error: {error_text(error)}") from error
    print(f"Report: {args.out / 'diversity.md'}, diversity.json and diversity.png")


def _label(path: Path, taken: dict[str, CaptionTable]) -> str:
    return path.stem if path.stem not in taken else str(path.with_suffix(""))


if __name__ == "__main__":
    main()
