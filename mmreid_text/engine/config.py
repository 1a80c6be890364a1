"""Config files with their typing errors caught, and the evaluation protocol set throughout."""

import difflib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmreid_text import registry

PROTOCOLS = ("val", "paper-val", "test-selected")

# What Runner.from_cfg reads, and the names our files give to shared parts.
TOP_LEVEL_KEYS = frozenset(
    {
        "model",
        "work_dir",
        "train_dataloader",
        "val_dataloader",
        "test_dataloader",
        "train_cfg",
        "val_cfg",
        "test_cfg",
        "auto_scale_lr",
        "optim_wrapper",
        "param_scheduler",
        "val_evaluator",
        "test_evaluator",
        "default_hooks",
        "custom_hooks",
        "load_from",
        "resume",
        "launcher",
        "env_cfg",
        "log_processor",
        "log_level",
        "visualizer",
        "default_scope",
        "randomness",
        "experiment_name",
        "model_wrapper_cfg",
        "find_unused_parameters",
        "activation_checkpointing",
        "compile",
        "custom_imports",
        "protocol",
        "train_pipeline",
        "test_pipeline",
    }
)


def load_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, apply command-line options, refuse unknown names and spread ``protocol``.

    mmengine accepts a misspelt top-level key or option silently; here both stop with the nearest known name.

    Args:
        path: Python config file.
        options: Dotted keys and values, as ``--cfg-options`` gives them.

    Raises:
        FileNotFoundError: There is no such file.
        KeyError: A top-level key, or an option, names nothing.
        ValueError: ``protocol`` is none of ``val``, ``paper-val`` and ``test-selected``.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"config {path} does not exist")
    cfg = Config.fromfile(path)
    for key in cfg:
        if key not in TOP_LEVEL_KEYS:
            raise KeyError(f"{path}: unknown top-level key {key!r}.{_nearest(key, TOP_LEVEL_KEYS)}")
    for key in options or {}:
        _check_option(cfg, key)
    cfg.merge_from_dict(dict(options or {}))
    set_protocol(cfg)
    return cfg


def set_protocol(cfg: Config) -> None:
    """Give every benchmark data set of a config the top-level ``protocol``, and keep the best epochs it asks for.

    ``val`` and ``paper-val`` keep one best checkpoint, by ``mean/R1`` on validation identities. ``test-selected`` does
    as the published repositories do: one best per benchmark, chosen on its test split.
    """
    protocol = cfg.get("protocol", "val")
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    for loader in ("train_dataloader", "val_dataloader"):
        for dataset in _dataset_configs(cfg.get(loader)):
            if _accepts(dataset["type"], "protocol"):
                dataset["protocol"] = protocol
    if protocol == "test-selected" and cfg.get("val_dataloader"):
        names = [registry.DATASETS.get(d["type"]).name for d in _dataset_configs(cfg.val_dataloader)]
        cfg.merge_from_dict({"default_hooks.checkpoint.save_best": [f"{name}/R1" for name in names]})


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Stop at once where a data set of a config has no files, before a model is built.

    Args:
        cfg: Config.
        loaders: Those that the run needs, of ``train_dataloader``, ``val_dataloader`` and ``test_dataloader``.

    Raises:
        FileNotFoundError: Names the missing folder or file and the page that says how to get it.
    """
    for loader in loaders:
        for dataset in _dataset_configs(cfg.get(loader)):
            cls = registry.DATASETS.get(dataset["type"])
            if hasattr(cls, "check_files"):
                cls.check_files(dataset["data_root"], dataset.get("table"))


def _dataset_configs(node: Any) -> Iterator[ConfigDict]:
    """Data set configs of a dataloader config, those within wrappers included, wrappers left out."""
    if isinstance(node, Mapping):
        if "dataset" in node:
            yield from _dataset_configs(node["dataset"])
        elif "datasets" in node:
            yield from _dataset_configs(node["datasets"])
        elif "type" in node:
            yield node
    elif isinstance(node, (list, tuple)):
        for item in node:
            yield from _dataset_configs(item)


def _check_option(cfg: Config, option: str) -> None:
    node: Any = cfg._cfg_dict
    parts = option.split(".")
    for i, part in enumerate(parts):
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise KeyError(f"--cfg-options {option}: {part!r} is no index of a list of {len(node)}")
            node = node[int(part)]
            continue
        if not isinstance(node, Mapping):
            raise KeyError(f"--cfg-options {option}: {'.'.join(parts[:i])} is a value, it has no key {part!r}")
        if part not in node:
            known = set(node) | (TOP_LEVEL_KEYS if i == 0 else _parameters(node.get("type")))
            if part in known:  # a constructor's argument that the config leaves at its default
                return
            raise KeyError(f"--cfg-options {option}: {part!r} names nothing.{_nearest(part, known)}")
        node = node[part]


def _parameters(type_name: str | type | None) -> set[str]:
    """Constructor arguments of a registered class; empty where the name is not registered."""
    cls: Any = type_name
    if isinstance(type_name, str):
        registries = (r for r in vars(registry).values() if isinstance(r, registry.Registry))
        cls = next(filter(None, (r.get(type_name) for r in registries)), None)
    return set(inspect.signature(cls).parameters) if cls is not None else set()


def _accepts(type_name: str | type, parameter: str) -> bool:
    return parameter in _parameters(type_name)


def _nearest(key: str, known: set[str] | frozenset[str]) -> str:
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(sorted(known))}."
