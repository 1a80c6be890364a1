"""The description of a transfer matrix, and the runs that fill it."""

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreid_text.engine.config import check_data, check_shares, check_weights, error_text, load_config, result_names
from mmreid_text.engine.config_options import nearest
from mmreid_text.engine.run_pool import Run
from mmreid_text.engine.training_run import FEATURES, tested_sets
from mmreid_text.evaluation.transfer import Row, result_key

ROW_KEYS = frozenset({"name", "source", "config", "options", "start", "checkpoint", "features"})
START_KEYS = frozenset({"config", "options", "start"})
SEED = "{seed}"


@dataclass(frozen=True)
class PlannedRow:
    """A row, and by seed where its feature dumps lie and the run that makes them (none for dumps made elsewhere).

    ``targets`` are the names in results of its test sets; for dumps made elsewhere, those that lie there.
    """

    row: Row
    dumps: dict[int, Path]
    runs: dict[int, Run]
    targets: list[str]


def plan_matrix(path: str, seeds: int, work_dir: Path, amp: bool = False) -> list[PlannedRow]:
    """Read a matrix file: what is to be run, and where its results lie.

    A matrix file is a Python config with one list, ``rows``; names of helper variables start with ``_``. A row is a
    dict of

    * ``name``: the method; rows of one method differ by source;
    * ``source``: the training data set, by its name in results or as published (``'CUHK-PEDES'``); several are joined
      by ``+``. A target of this name is in domain;
    * ``config``: path of the config, relative to the matrix file. Its test sets are the row's targets;
    * ``options``: what the row changes of its config, dotted keys and values as
      :func:`~mmreid_text.engine.config.load_config` takes them; the seed is not among them;
    * ``start``: a run whose best epoch this one starts from, ``dict(config=...)``, perhaps with ``options`` and a
      ``start`` of its own. Rows that name the same share it, seed by seed;
    * ``checkpoint``: test this file, named from the current folder, and train nothing; '' tests the config's pretrained
      weights;
    * ``features``: folder of feature dumps made elsewhere, named from the current folder, in place of ``config``.

    ``{seed}`` in the last two stands for the seed; without it the row has one model, whatever the seed.

    Args:
        path: The matrix file.
        seeds: Seeds 0 to this less one.
        work_dir: Folder of the matrix; runs lie below ``runs``.
        amp: Train in bfloat16.

    Raises:
        FileNotFoundError: The matrix file or a config does not exist, or a folder holds no dump.
        KeyError: Unknown key, or an option that names nothing.
        ValueError: A row lacks a key or has one too many, an option cannot be set, or the row's source is not what its
            config trains on.
    """
    rows = _read(path)
    planner = _Planner(work_dir, amp)
    planned = [planner.row(row, seeds, f"{path}, row {i} ({row['name']})") for i, row in enumerate(rows)]
    known: set[tuple[str, str]] = set()
    for own in planned:
        key = (own.row.name, result_key(own.row.source))
        if key in known:
            raise ValueError(f"{path}: two rows have the name {own.row.name!r} and the source {own.row.source!r}")
        known.add(key)
    return planned


def all_runs(planned: list[PlannedRow]) -> list[Run]:
    """The runs of a matrix, each once; seed by seed, and behind what it starts from."""
    runs: dict[Run, None] = {}
    for seed in sorted({seed for own in planned for seed in own.runs}):
        for own in planned:
            chain, run = [], own.runs.get(seed)
            while run is not None:
                chain.append(run)
                run = run.start
            runs.update(dict.fromkeys(reversed(chain)))
    return list(runs)


def check_runs(runs: list[Run], nproc: int) -> None:
    """Stop at once where a run's data or weights are missing.

    Raises:
        FileNotFoundError: Names what is missing.
        ValueError: A data set is damaged, or several processes would get unequal shares.
    """
    for run in runs:
        tests_only = run.checkpoint is not None
        if run.checkpoint and not Path(run.checkpoint).is_file():
            raise FileNotFoundError(f"{run.name}: checkpoint {run.checkpoint} does not exist")
        loaders = ("test_dataloader", "train_dataloader", "val_dataloader")
        check_data(run.cfg, loaders[:1] if tests_only else loaders)
        if run.start is None and not run.checkpoint:
            check_weights(run.cfg)
        if not tests_only and nproc > 1:
            check_shares(run.cfg)


def _read(path: str) -> list[dict[str, Any]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"matrix {path} does not exist")
    matrix = Config.fromfile(path)
    for key in matrix:
        if key != "rows" and not key.startswith("_"):
            raise KeyError(f"{path}: unknown key {key!r}: a matrix has `rows`, helper variables start with '_'")
    rows = matrix.get("rows")
    if not rows:
        raise ValueError(f"{path}: `rows` is empty: give at least one dict(name=..., source=..., config=...)")
    for i, row in enumerate(rows):
        _check_row(row, f"{path}, row {i}")
        node = row
        while "config" in node:
            node["config"] = str((Path(path).parent / node["config"]).resolve())
            node = node.get("start", {})
    return rows


def _check_row(row: Mapping[str, Any], where: str) -> None:
    _check_keys(row, ROW_KEYS, where)
    missing = [key for key in ("name", "source") if not isinstance(row.get(key), str)]
    if missing:
        raise ValueError(f"{where}: {missing[0]!r} must be a string, got {row.get(missing[0])!r}")
    if ("config" in row) == ("features" in row):
        raise ValueError(f"{where} ({row['name']}) needs either 'config' or 'features'")
    if "options" in row and "features" in row:
        raise ValueError(f"{where} ({row['name']}): 'options' change a config, which a row of 'features' has none of")
    _check_options(row, f"{where} ({row['name']})")
    extra = [key for key in ("start", "checkpoint") if key in row]
    if len(extra) > 1 or (extra and "features" in row):
        raise ValueError(f"{where} ({row['name']}): 'start', 'checkpoint' and 'features' exclude each other")
    node = row
    while "start" in node:
        node = node["start"]
        _check_keys(node, START_KEYS, f"{where} ({row['name']}), start")
        if "config" not in node:
            raise ValueError(f"{where} ({row['name']}): a start needs a 'config'")
        _check_options(node, f"{where} ({row['name']}), start")


def _check_options(node: Mapping[str, Any], where: str) -> None:
    options = node.get("options", {})
    if not isinstance(options, Mapping) or not _has_text_keys(options):
        raise ValueError(f"{where}: 'options' must be a dict of dotted keys and values, got {options!r}")
    randomness = options.get("randomness")
    if "randomness.seed" in options or (isinstance(randomness, Mapping) and "seed" in randomness):
        raise ValueError(f"{where}: 'options' set randomness.seed, but every row is trained with each of the seeds")


def _has_text_keys(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _has_text_keys(inner) for key, inner in value.items())
    return not isinstance(value, (list, tuple)) or all(map(_has_text_keys, value))


def _check_keys(node: Any, known: frozenset[str], where: str) -> None:
    if not isinstance(node, Mapping):
        raise ValueError(f"{where} must be a dict, got {node!r}")
    for key in node:
        if key not in known:
            raise KeyError(f"{where}: unknown key {key!r}.{nearest(key, known)}")


class _Planner:
    """Makes each run once, however many rows name it."""

    def __init__(self, work_dir: Path, amp: bool) -> None:
        self.work_dir, self.amp = work_dir, amp
        self.configs: dict[tuple[str, str], Config] = {}
        self.runs: dict[tuple, Run] = {}

    def row(self, row: Mapping[str, Any], seeds: int, where: str) -> PlannedRow:
        try:
            return self._row(row, seeds)
        except (FileNotFoundError, KeyError, ValueError) as error:
            kind = next(kind for kind in (FileNotFoundError, KeyError, ValueError) if isinstance(error, kind))
            raise kind(f"{where}: {error_text(error)}") from error

    def _row(self, row: Mapping[str, Any], seeds: int) -> PlannedRow:
        path = row.get("features", row.get("checkpoint"))
        one_model = path is not None and SEED not in path
        numbers = range(1 if one_model else seeds)
        if "features" in row:
            dumps = {seed: Path(row["features"].replace(SEED, str(seed))) for seed in numbers}
            targets = sorted({file.stem for folder in dumps.values() for file in folder.glob("*.npz")})
            if not targets:
                raise FileNotFoundError(f"there is no feature dump (.npz) in {row['features']}")
            return PlannedRow(Row(row["name"], row["source"], one_model=one_model), dumps, {}, targets)
        runs = {seed: self.run(row, seed) for seed in numbers}
        cfg = runs[0].cfg
        if row.get("checkpoint") != "":
            self._check_source(row, cfg)
        own = Row(row["name"], row["source"], cfg.get("protocol", "val"), one_model)
        return PlannedRow(own, {s: run.work_dir / FEATURES for s, run in runs.items()}, runs, tested_sets(cfg))

    def run(self, node: Mapping[str, Any], seed: int) -> Run:
        key = (*_chain(node), seed)
        if key not in self.runs:
            cfg = copy.deepcopy(self._config(node))
            cfg.randomness = {**(cfg.get("randomness") or {}), "seed": seed}
            checkpoint = node.get("checkpoint")
            if checkpoint:
                checkpoint = checkpoint.replace(SEED, str(seed))
            work_dir = self.work_dir / "runs" / _folder_name(node) / f"seed_{seed}"
            if any(run.work_dir == work_dir for run in self.runs.values()):
                raise ValueError(f"two different runs would share the folder {work_dir}: rename one of their configs")
            start = self.run(node["start"], seed) if "start" in node else None
            label = f"{node['name']}: " if "name" in node else ""  # of rows that share a run the first is named
            name = f"{label}{_folder_name(node)} seed {seed}"
            self.runs[key] = Run(name, work_dir, cfg, start, checkpoint, features=True)
        return self.runs[key]

    def _config(self, node: Mapping[str, Any]) -> Config:
        path, key = node["config"], (node["config"], _options_text(node))
        if key not in self.configs:
            cfg = load_config(path, node.get("options"))
            if not cfg.get("test_dataloader"):
                raise ValueError(f"{path} has no test_dataloader, whose data sets would be the matrix's targets")
            if self.amp and cfg.get("optim_wrapper"):
                cfg.optim_wrapper.type = "AutocastOptimWrapper"
            self.configs[key] = cfg
        return self.configs[key]

    def _check_source(self, row: Mapping[str, Any], cfg: Config) -> None:
        trains_on = "+".join(result_names(cfg.get("train_dataloader")))
        if trains_on and result_key(row["source"]) != trains_on:
            raise ValueError(f"the source is {row['source']!r}, but {row['config']} trains on {trains_on}")


def _chain(node: Mapping[str, Any]) -> tuple:
    own = (node["config"], _options_text(node), node.get("checkpoint"))
    return (*own, *(_chain(node["start"]) if "start" in node else ()))


def _options_text(node: Mapping[str, Any]) -> str:
    """The node's options, the same text for the same options in any order; '' without any."""
    options = node.get("options")
    return json.dumps(options, sort_keys=True, default=repr) if options else ""


def _folder_name(node: Mapping[str, Any]) -> str:
    """Such as ``irra-tiny_street_from-nam--nam-tiny_procedural``, the start last; options are a hash behind a ``+``."""
    path = Path(node["config"])
    name = f"{path.parent.name}-{path.stem}"
    if _options_text(node):
        name += f"+{hashlib.sha256(_options_text(node).encode()).hexdigest()[:8]}"
    if "checkpoint" in node:
        name += "--" + re.sub(r"[^\w.]+", "-", node["checkpoint"] or "pretrained").strip("-.")
    return f"{name}--{_folder_name(node['start'])}" if "start" in node else name
