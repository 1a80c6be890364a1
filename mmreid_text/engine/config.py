"""Config files with their typing errors caught, and the evaluation protocol set throughout."""

import copy
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmreid_text import registry
from mmreid_text.engine.config_options import TOP_LEVEL_KEYS, WEIGHT_KEYS, accepts, apply_options, class_of, nearest

WEIGHT_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".safetensors"})


def load_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, apply command-line options, refuse unknown names and spread ``protocol``.

    mmengine accepts a misspelt top-level key or option silently; here both stop with the nearest known name.

    Args:
        path: Python config file.
        options: Dotted keys and values, as ``--cfg-options`` gives them; not changed. A dict joins the settings that
            are there; with ``_delete_=True`` in it, it takes their place.

    Raises:
        FileNotFoundError: There is no such file.
        KeyError: A top-level key, or an option, names nothing. Names of helper variables start with ``_``.
        ValueError: An option gives a value where there are settings, or settings where there is a value; ``protocol``
            is none of ``val``, ``paper-val`` and ``test-selected``, or a data set states another.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"config {path} does not exist")
    cfg = Config.fromfile(path)
    for key in cfg:
        if key not in TOP_LEVEL_KEYS and not key.startswith("_"):
            raise KeyError(
                f"{path}: unknown top-level key {key!r}.{nearest(key, TOP_LEVEL_KEYS)} "
                f"A helper variable's name starts with '_': {'_' + key!r}."
            )
    apply_options(cfg, options or {})
    set_protocol(cfg)
    return cfg


def set_protocol(cfg: Config) -> None:
    """Give every benchmark data set of a config the top-level ``protocol``, and keep the best epochs it asks for.

    ``ProtocolHook`` joins the default hooks: it marks results that are not selected as ``val`` does.
    ``val`` and ``paper-val`` keep one best checkpoint, by ``mean/R1`` on validation identities. ``test-selected`` does
    as the published repositories do: one best per benchmark, chosen on its test split; ``save_best=None`` stays.

    Raises:
        ValueError: Unknown protocol, a data set states another one, or its name in results is not known.
    """
    from mmreid_text.datasets.splits import PROTOCOLS  # late: takes seconds, and misspelt names should show before

    protocol = cfg.get("protocol", "val")
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    for loader in ("train_dataloader", "val_dataloader"):
        for dataset in dataset_configs(cfg.get(loader)):
            if not accepts(dataset["type"], "protocol"):
                continue
            if dataset.get("protocol", protocol) != protocol:
                raise ValueError(
                    f"{loader}: {dataset['type']} states protocol={dataset['protocol']!r}, the config {protocol!r}. "
                    "One protocol holds for all data sets: set it at the top of the config only."
                )
            dataset["protocol"] = protocol
    checkpoint = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    if protocol == "test-selected" and cfg.get("val_dataloader") and checkpoint.get("save_best") is not None:
        checkpoint["save_best"] = [f"{name}/R1" for name in result_names(cfg.val_dataloader)]
    cfg.default_hooks = {**(cfg.get("default_hooks") or {}), "protocol": {"type": "ProtocolHook"}}


def result_names(loader: Mapping[str, Any] | None) -> list[str]:
    """Names in results of a dataloader config's data sets, none of which is built.

    Raises:
        ValueError: One does not state its name.
    """
    return [_result_name(dataset) for dataset in dataset_configs(loader)]


def keep_test_sets(cfg: Config, names: Collection[str]) -> Config:
    """A copy of a config that tests only the data sets of these names in results."""
    cfg = copy.deepcopy(cfg)
    joined = cfg.test_dataloader.dataset
    if "datasets" in joined:
        joined.datasets = [member for member in joined.datasets if _result_name(member) in names]
    return cfg


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Stop at once where a data set of a config has no files, before a model is built.

    Args:
        cfg: Config.
        loaders: Those that the run needs, of ``train_dataloader``, ``val_dataloader`` and ``test_dataloader``.

    Raises:
        FileNotFoundError: Names the missing folder or file and the page that says how to get it.
        ValueError: A caption table is damaged or another data set's.
    """
    for loader in loaders:
        for dataset in dataset_configs(cfg.get(loader)):
            cls = class_of(dataset["type"])
            if hasattr(cls, "check_files"):
                cls.check_files(**{key: value for key, value in dataset.items() if key != "type"})


def set_start(cfg: Config, resume: str | None) -> None:
    """Say what training starts from: a run that is resumed, ``load_from``, or the model's pretrained weights.

    Where a checkpoint is loaded ``model.init_cfg`` becomes None: its weights would be fetched for nothing.

    Args:
        cfg: Config with ``work_dir``; changed in place.
        resume: ``auto`` goes on from the work dir's last checkpoint, if there is one; or a checkpoint; or None, which
            leaves ``resume`` and ``load_from`` as the config has them.

    Raises:
        FileNotFoundError: There is no such checkpoint.
    """
    from mmengine.runner import find_latest_checkpoint

    if resume is None and cfg.get("resume") and not cfg.get("load_from"):
        resume = "auto"
    if resume == "auto":
        last = find_latest_checkpoint(cfg.work_dir)
        cfg.resume = last is not None
        cfg.load_from = last or cfg.get("load_from")
    elif resume is not None:
        cfg.resume, cfg.load_from = True, resume
    start = cfg.get("load_from")
    if start and "://" not in start and not Path(start).expanduser().is_file():
        raise FileNotFoundError(f"checkpoint {start} does not exist")
    if start and cfg.get("model"):
        cfg.model.init_cfg = None


def set_num_ids(cfg: Config) -> None:
    """Fill in ``model.num_ids``, the identities of the training set, where ``IdentityLabelHook`` is used.

    A number that the config states stays, and the hook compares it. Reads the captions' index, as training will.

    Args:
        cfg: Config; changed in place.
    """
    hooks = cfg.get("custom_hooks") or []
    if all(hook.get("type") != "IdentityLabelHook" for hook in hooks) or cfg.model.get("num_ids") is not None:
        return
    dataset = registry.DATASETS.build(cfg.train_dataloader.dataset.copy())
    cfg.model = dict(cfg.model, num_ids=dataset.num_ids)  # a model config of its own: copies of a Config share theirs


def check_weights(cfg: Config) -> None:
    """Stop at once where the model's pretrained weights are a file that does not exist; hub names and URLs pass.

    Raises:
        FileNotFoundError: Names the file and how to name another.
    """
    init_cfg = cfg.model.get("init_cfg") or {}
    named = {key: init_cfg[key] for key in WEIGHT_KEYS.get(init_cfg.get("type", ""), ()) if init_cfg.get(key)}
    if "image" in named and "text" in named:
        named.pop("checkpoint", None)  # which is for encoders that have no file of their own
    for key, source in named.items():
        source = str(source)
        path = Path(source).expanduser()
        if "://" in source or path.exists() or not (path.suffix in WEIGHT_SUFFIXES or source[0] in "./~"):
            continue
        raise FileNotFoundError(
            f"model.init_cfg.{key}: the weights {path} do not exist. Train the config whose run writes them, if it is "
            "one of ours; docs/data.md says how to get published ones. "
            f"--cfg-options model.init_cfg.{key}=... names another file."
        )


def check_shares(cfg: Config) -> None:
    """Stop at once where the ranks of a training run would get unequal shares.

    Raises:
        ValueError: The training sampler does not round up.
    """
    if not (cfg.train_dataloader.get("sampler") or {}).get("round_up", True):
        raise ValueError(
            "train_dataloader.sampler.round_up is False, so ranks would get unequal shares of the captions and wait "
            "for each other for ever: leave it out. Then a few captions are seen twice where they do not divide."
        )


def error_text(error: Exception) -> str:
    """What an error says; ``str`` of a KeyError would be in quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def dataset_configs(node: Any) -> Iterator[ConfigDict]:
    """Data set configs of a dataloader config, those within wrappers included, wrappers left out."""
    if isinstance(node, Mapping):
        if "dataset" in node:
            yield from dataset_configs(node["dataset"])
        elif "datasets" in node:
            yield from dataset_configs(node["datasets"])
        elif "type" in node:
            yield node
    elif isinstance(node, (list, tuple)):
        for item in node:
            yield from dataset_configs(item)


def _result_name(dataset: ConfigDict) -> str:
    cls = class_of(dataset["type"])
    if not hasattr(cls, "result_name"):
        raise ValueError(
            f"data set type {dataset['type']} does not say what its results are called: derive it from "
            "TextReIDDataset. (protocol='test-selected' needs the name, unless "
            "default_hooks.checkpoint.save_best=None.)"
        )
    return cls.result_name(**{key: value for key, value in dataset.items() if key != "type"})
