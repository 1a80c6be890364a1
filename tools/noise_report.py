"""Which words noise-aware masking masks, by class of word, from a saved noise table."""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmreid_text.engine.config import check_data, error_text, load_config
from mmreid_text.engine.noise_table import load_noise_table
from mmreid_text.evaluation.noise_report import report_noise_table
from mmreid_text.evaluation.results import format_table
from mmreid_text.registry import DATASETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config of the run")
    parser.add_argument("table", type=Path, help="noise_epoch_<n>.npz of its work dir")
    parser.add_argument("--p", type=float, default=0.15, help="average share of masked tokens")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="dotted.key=value ...")
    args = parser.parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options)
        check_data(cfg, ("train_dataloader",))
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        noise, stamp = load_noise_table(args.table)
        if stamp["fingerprint"] != dataset.fingerprint:
            raise ValueError(f"{args.table} is the noise of other captions than the training set of {args.config} has")
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise SystemExit(f"error: {error_text(error)}") from error
    print(f"{args.table}: epoch {stamp['epoch']}, {len(noise):,} captions; percent")
    print(format_table(report_noise_table(dataset, noise, args.p), head="class"))


if __name__ == "__main__":
    main()
