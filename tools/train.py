"""Train a model from a config."""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmreid_text.engine.config import (
    check_data,
    check_shares,
    check_weights,
    error_text,
    load_config,
    set_num_ids,
    set_start,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of logs and checkpoints; work_dirs/<config name> unless told")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="go on from this checkpoint; where no file is named, from the work dir's last one, if there is one",
    )
    parser.add_argument("--amp", action="store_true", help="forward passes in bfloat16")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="dotted.key=value ...")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options)
        cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(args.config).stem)
        set_start(cfg, args.resume)
        check_weights(cfg)
        check_data(cfg, ("train_dataloader", "val_dataloader"))
        if args.launcher != "none":
            check_shares(cfg)
        set_num_ids(cfg)
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise SystemExit(f"error: {error_text(error)}") from error

    # Late: these imports take seconds, and a mistake in the config should show before.
    from mmengine.runner import Runner

    from mmreid_text.engine.distributed import first_failure_speaks, leave_group, prepare_distributed

    cfg.launcher = args.launcher
    if args.amp:
        cfg.optim_wrapper.type = "AutocastOptimWrapper"
    prepare_distributed(cfg, args.launcher)
    with first_failure_speaks():
        Runner.from_cfg(cfg).train()
        leave_group()


if __name__ == "__main__":
    main()
