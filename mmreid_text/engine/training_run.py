"""One run of a config in a folder of its own: trained once, resumed after a kill, tested at its best epoch.

What is done stands in ``run.json``. :func:`train_and_test` runs in this process; as a program the module is one process
of a run that :mod:`mmreid_text.engine.run_pool` started, alone or under ``torchrun``.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dist import barrier, get_world_size, init_dist, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from mmreid_text.atomic_write import write_text
from mmreid_text.engine.config import keep_test_sets, result_names, set_num_ids
from mmreid_text.engine.config_options import WEIGHT_KEYS
from mmreid_text.engine.distributed import first_failure_speaks, leave_group, prepare_distributed
from mmreid_text.evaluation.results import MEAN

STATE = "run.json"
FEATURES = "features"
"""Folder of feature dumps in a run's folder."""


def train_and_test(
    cfg: Config,
    work_dir: Path,
    hooks: Sequence[Hook] = (),
    checkpoint: str | None = None,
    features: bool = False,
    stamp: str | None = None,
) -> dict[str, float]:
    """Train a config and test its best epoch; a second call returns what the first measured.

    A run that was killed goes on from its last epoch. What another config left in the same place is not used: the run
    starts over. Where validation chose a best epoch for each benchmark (``protocol='test-selected'``), each is tested
    at its own.

    Args:
        cfg: Config with train, validation and test parts; not changed.
        work_dir: Folder of logs, checkpoints and results.
        hooks: Further hooks of the training.
        checkpoint: Test this file and train nothing; '' tests the config's pretrained weights.
        features: Dump the features of every test set as well, to ``<work_dir>/features/<data set>.npz``.
        stamp: What identifies the run; None takes :func:`run_stamp`.

    Returns:
        Metrics of the test sets in percent, by ``<dataset>/<metric>``.
    """
    stamp = stamp or run_stamp(cfg, checkpoint)
    done = finished_metrics(cfg, work_dir, stamp, features)
    if done is not None:
        return done
    state = begin_run(work_dir, stamp)
    if checkpoint is None and not state.get("trained"):
        _train(cfg, work_dir, hooks)
        state |= {"trained": True}
        _write_state(work_dir, state)
    metrics = _test(cfg, work_dir, checkpoint, features)
    _write_state(work_dir, state | {"metrics": metrics, "processes": get_world_size()})
    return metrics


def run_stamp(cfg: Config, checkpoint: str | None = None, start: str | None = None) -> str:
    """Identify a run: sha256 of its settings and of the content of the weight files that it takes.

    Args:
        cfg: Config of the run.
        checkpoint: The checkpoint that is tested without training, if so.
        start: Stamp of the run whose best epoch the training starts from, in place of the file's content.
    """
    settings = cfg.to_dict()
    files = {"checkpoint": checkpoint, "load_from": settings.pop("load_from", None)}
    init_cfg = settings.get("model", {}).get("init_cfg") or {}
    keys = WEIGHT_KEYS.get(init_cfg.get("type", ""), ("checkpoint",))
    named = {key: init_cfg.pop(key, None) for key in keys}
    if start is None:
        files |= {"init_cfg" if key == "checkpoint" else f"init_cfg.{key}": file for key, file in named.items()}
    weights = {name: _content(file) for name, file in files.items() if file is not None}
    if start is not None:
        weights["init_cfg"] = start
    return hashlib.sha256(json.dumps([settings, weights], sort_keys=True, default=repr).encode()).hexdigest()


def finished_metrics(cfg: Config, work_dir: Path, stamp: str, features: bool = False) -> dict[str, float] | None:
    """Metrics of a run that is done; None where something is left to do."""
    state = _read_state(work_dir)
    if state.get("config") != stamp or "metrics" not in state:
        return None
    if features and not all((work_dir / FEATURES / f"{name}.npz").exists() for name in tested_sets(cfg)):
        return None
    return state["metrics"]


def begin_run(work_dir: Path, stamp: str) -> dict[str, Any]:
    """What is done of a run. Checkpoints and features of another config are removed first."""
    state = _read_state(work_dir)
    if state.get("config") != stamp:
        state = {"config": stamp}
        if is_main_process():
            for pattern in ("last_checkpoint", "*.pth", "noise_epoch_*.npz", f"{FEATURES}/*.npz"):
                for stale in work_dir.glob(pattern):
                    stale.unlink()
        _write_state(work_dir, state)
    barrier()  # no rank looks for checkpoints while another one removes them
    return state


def run_test(cfg: Config, work_dir: Path, checkpoint: Path | None, hooks: Sequence[dict] = ()) -> dict[str, float]:
    """Test a checkpoint, or the config's pretrained weights where it is None.

    Args:
        cfg: Config with a test part; not changed.
        work_dir: Folder of logs.
        checkpoint: Checkpoint file.
        hooks: Configs of further hooks, such as ``dict(type='RankStripHook')``.

    Returns:
        Metrics in percent, by ``<dataset>/<metric>``.
    """
    cfg = cfg.copy()
    for key in [k for k in cfg if k.startswith(("train_", "val_")) or k in ("optim_wrapper", "param_scheduler")]:
        cfg.pop(key)
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            experiment_name=f"{work_dir}_test",
            load_from=None if checkpoint is None else str(checkpoint),
            resume=False,
        )
    )
    cfg.custom_hooks = list(hooks)
    return dict(Runner.from_cfg(cfg).test())


def best_checkpoint(work_dir: Path, dataset: str | None = None) -> Path:
    """The epoch that validation chose, or the last one where nothing was validated.

    Args:
        work_dir: Folder of the run.
        dataset: Name in results of the benchmark whose own best epoch is preferred, where each has one.

    Raises:
        FileNotFoundError: The folder holds no checkpoint.
    """
    own = [] if dataset is None else list(work_dir.glob(f"best_{dataset}_R1_*.pth"))
    best = sorted(own or work_dir.glob("best_*.pth"), key=lambda path: path.stat().st_mtime)
    chosen = best[-1] if best else _last_checkpoint(work_dir)
    if chosen is None:
        raise FileNotFoundError(f"{work_dir} holds no checkpoint: train there first, or name the folder of a run")
    return chosen


def tested_sets(cfg: Config) -> list[str]:
    """Names in results of the data sets that a config tests."""
    return result_names(cfg.test_dataloader)


def _train(cfg: Config, work_dir: Path, hooks: Sequence[Hook]) -> None:
    cfg = cfg.copy()
    set_num_ids(cfg)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f"{work_dir}_train"
    last = _last_checkpoint(work_dir)
    cfg.resume = last is not None
    cfg.load_from = cfg.get("load_from") if last is None else str(last)
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    barrier()  # rank 0 may still be writing the best epoch, and all ranks must test the same


def _last_checkpoint(work_dir: Path) -> Path | None:
    """The last epoch's checkpoint, also where the folder was moved since or is named from elsewhere."""
    last = find_latest_checkpoint(str(work_dir))
    return None if last is None else work_dir / Path(last).name


def _test(cfg: Config, work_dir: Path, checkpoint: str | None, features: bool) -> dict[str, float]:
    hooks = [dict(type="FeatureDumpHook", out_dir=str(work_dir / FEATURES))] if features else []
    if checkpoint is not None:
        return run_test(cfg, work_dir, Path(checkpoint) if checkpoint else None, hooks)
    chosen: dict[Path, list[str]] = {}
    for name in tested_sets(cfg):
        chosen.setdefault(best_checkpoint(work_dir, name), []).append(name)
    metrics: dict[str, float] = {}
    for path, names in chosen.items():
        part = cfg if len(chosen) == 1 else keep_test_sets(cfg, names)
        metrics |= run_test(part, work_dir, path, hooks)
    if len(chosen) > 1:
        datasets = tested_sets(cfg)
        for key in [key.rpartition("/")[2] for key in metrics if key.startswith(f"{MEAN}/")]:
            metrics[f"{MEAN}/{key}"] = float(np.mean([metrics[f"{name}/{key}"] for name in datasets]))
    return metrics


def _read_state(work_dir: Path) -> dict[str, Any]:
    path = work_dir / STATE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write_state(work_dir: Path, state: dict[str, Any]) -> None:
    if is_main_process():
        work_dir.mkdir(parents=True, exist_ok=True)
        write_text(work_dir / STATE, json.dumps(state, indent=2) + "\n")


def _content(file: str) -> str:
    """sha256 of a weight file's content; a folder's, a hub name and a missing file stand for themselves."""
    path = Path(file).expanduser()
    if not path.is_file():
        return file
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("work_dir", type=Path)
    parser.add_argument("--stamp", required=True)
    parser.add_argument("--checkpoint")
    parser.add_argument("--features", action="store_true")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none")
    args = parser.parse_args()
    # Without its file name, or the Runner would write its own config over the file, which other ranks may just read.
    cfg = Config(Config.fromfile(args.config).to_dict())
    cfg.launcher = args.launcher
    prepare_distributed(cfg, args.launcher)
    if args.launcher != "none" and not is_distributed():  # before a Runner does, as ranks agree on what is done already
        init_dist(args.launcher, **cfg.get("env_cfg", {}).get("dist_cfg", {}))
    with first_failure_speaks():
        train_and_test(cfg, args.work_dir, (), args.checkpoint, args.features, args.stamp)
        leave_group()


if __name__ == "__main__":
    main()
