"""Test a checkpoint, or the pretrained weights of a config, on every test set of the config.

Writes results.json, results.md and a picture of some rankings per test set to the work dir.
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mmreid_text.engine.config import check_data, check_weights, error_text, load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", nargs="?", help="checkpoint; without one, or '', the pretrained weights")
    parser.add_argument("--work-dir", help="folder of logs and results; work_dirs/<config name> unless told")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="dotted.key=value ...")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options)
        if not args.checkpoint:
            check_weights(cfg)
        elif "://" not in args.checkpoint and not Path(args.checkpoint).is_file():
            raise FileNotFoundError(f"checkpoint {args.checkpoint} does not exist")
        check_data(cfg, ("test_dataloader",))
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise SystemExit(f"error: {error_text(error)}") from error

    from mmengine.runner import Runner

    from mmreid_text.engine.distributed import leave_group, prepare_distributed

    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(args.config).stem)
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    metrics = [evaluator for evaluator in evaluators if evaluator.type == "ReIDMetric"]
    for metric in metrics:
        metric.setdefault("out_dir", cfg.work_dir)
    hooks = cfg.get("custom_hooks") or []
    if metrics and all(hook["type"] != "RankStripHook" for hook in hooks):
        cfg.custom_hooks = [*hooks, dict(type="RankStripHook")]
    cfg.load_from = args.checkpoint or None
    cfg.resume = False
    prepare_distributed(cfg, args.launcher)
    Runner.from_cfg(cfg).test()
    leave_group()


if __name__ == "__main__":
    main()
