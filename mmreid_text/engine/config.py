"""Config files with their typing errors caught, and the evaluation protocol set throughout."""

import copy
import difflib
import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmreid_text import registry

# What mmengine's Runner and Config read, and the names that our files give to what their dataloaders share.
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
        "data_preprocessor",
        "efficient_conv_bn_eval",
        "sync_bn",
        "custom_imports",
        "protocol",
        "train_pipeline",
        "val_pipeline",
        "test_pipeline",
    }
)

# Arguments of others that a config hands on through a dict without type.
FREE_KEYS = frozenset(
    {"env_cfg.mp_cfg", "env_cfg.dist_cfg", "optim_wrapper.clip_grad", "optim_wrapper.paramwise_cfg", "compile"}
)
WEIGHT_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".safetensors"})
# By the type of model.init_cfg: its keys that name a file, a folder, a URL or a hub name, and that options may add.
WEIGHT_KEYS = {"CLIPPretrained": ("checkpoint",), "EncoderWeights": ("image", "text", "checkpoint")}


def load_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, apply command-line options, refuse unknown names and spread ``protocol``.

    mmengine accepts a misspelt top-level key or option silently; here both stop with the nearest known name.

    Args:
        path: Python config file.
        options: Dotted keys and values, as ``--cfg-options`` gives them. A dict joins the settings that are there; with
            ``_delete_=True`` in it, it takes their place.

    Raises:
        FileNotFoundError: There is no such file.
        KeyError: A top-level key, or an option, names nothing. Names of helper variables start with ``_``.
        ValueError: An option gives a value where there are settings, or settings where there are none. ``protocol`` is
            none of ``val``, ``paper-val`` and ``test-selected``, or a data set states another.
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
    for key, value in (options or {}).items():
        _check_option(cfg, str(key).split("."), value)
    cfg.merge_from_dict(copy.deepcopy(dict(options or {})))  # mmengine takes values apart, and shares them
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
            if not _accepts(dataset["type"], "protocol"):
                continue
            if dataset.get("protocol", protocol) != protocol:
                raise ValueError(
                    f"{loader}: {dataset['type']} states protocol={dataset['protocol']!r}, the config {protocol!r}. "
                    "One protocol holds for all data sets: set it at the top of the config only."
                )
            dataset["protocol"] = protocol
    checkpoint = cfg.get("default_hooks", {}).get("checkpoint") or {}
    if protocol == "test-selected" and cfg.get("val_dataloader") and checkpoint.get("save_best") is not None:
        checkpoint["save_best"] = [f"{name}/R1" for name in result_names(cfg.val_dataloader)]
    cfg.default_hooks = {**cfg.get("default_hooks", {}), "protocol": {"type": "ProtocolHook"}}


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
            cls = _class_of(dataset["type"])
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


def _check_option(cfg: Config, parts: list[str], value: Any) -> None:
    node: Any = cfg._cfg_dict
    option = ".".join(parts)
    for i, part in enumerate(parts):
        above = ".".join(parts[:i])
        if above in FREE_KEYS:
            return
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise KeyError(f"option {option}: {part!r} is no index of a list of {len(node)}")
            node = node[int(part)]
            continue
        if node is None:
            raise KeyError(f"option {option}: {above} is None; set the whole dict, in a config file of your own")
        if not isinstance(node, Mapping):
            raise KeyError(f"option {option}: {above} is a value, it has no key {part!r}")
        if part not in node:
            known = set(node) | (TOP_LEVEL_KEYS if i == 0 else _parameters(node.get("type")) | _untyped_keys(above))
            known.update(WEIGHT_KEYS.get(node.get("type", ""), ()))
            if part in known:  # a constructor's argument that the config leaves at its default
                return
            raise KeyError(f"option {option}: {part!r} names nothing.{nearest(part, known)}")
        node = node[part]
    if option not in FREE_KEYS:
        _check_value(cfg, parts, value, node)


def _check_value(cfg: Config, parts: list[str], value: Any, old: Any) -> None:
    """Refuse a value that mmengine cannot merge with the old one, or that cannot stand in its place."""
    option = ".".join(parts)
    if isinstance(value, Mapping):
        if value.get("_delete_"):
            return
        if not isinstance(old, Mapping):
            raise ValueError(
                f"option {option}: a dict cannot join {old!r}. Give what is to stand there, or the dict with "
                "_delete_=True."
            )
        if value.get("type", old.get("type")) == old.get("type"):  # else the other type's arguments count
            for key, inner in value.items():
                _check_option(cfg, [*parts, str(key)], inner)
    elif isinstance(old, Mapping) and isinstance(value, (str, int, float)):
        raise ValueError(f"option {option}: {value!r} cannot stand for a dict of settings: {', '.join(map(str, old))}")


def _untyped_keys(path: str) -> set[str]:
    """What mmengine or the model reads of a node beside, or without, the arguments of its ``type``."""
    if match := re.fullmatch(r"model\.(losses\.\d+|cluster_memory|cmpc|(iou_losses)\.\d+)", path):
        return {"loss_weight", "start"} if match[2] else {"loss_weight"}
    if path.endswith("_dataloader"):
        from torch.utils.data import DataLoader

        return _parameters(DataLoader) | {"batch_sampler", "num_batch_per_epoch"}
    if path == "log_processor":
        from mmengine.runner import LogProcessor

        return _parameters(LogProcessor) | {"type"}
    if path == "randomness":
        from mmengine.runner import Runner

        return set(inspect.signature(Runner.set_randomness).parameters) - {"self"}
    fixed = {
        "env_cfg": {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"},
        "optim_wrapper": {"constructor", "paramwise_cfg"},
        "auto_scale_lr": {"enable", "base_batch_size"},
    }
    return fixed.get(path, set())


def _class_of(type_name: str | type | None) -> Any:
    """A registered class or function; None where the name is not registered."""
    if not isinstance(type_name, str):
        return type_name
    registries = (r for r in vars(registry).values() if isinstance(r, registry.Registry))
    return next(filter(None, (r.get(type_name) for r in registries)), None)


def _result_name(dataset: ConfigDict) -> str:
    cls = _class_of(dataset["type"])
    if not hasattr(cls, "result_name"):
        raise ValueError(
            f"data set type {dataset['type']} does not say what its results are called: derive it from "
            "TextReIDDataset. (protocol='test-selected' needs the name, unless "
            "default_hooks.checkpoint.save_best=None.)"
        )
    return cls.result_name(**{key: value for key, value in dataset.items() if key != "type"})


def _parameters(type_name: str | type | None) -> set[str]:
    """Names of the arguments that build a registered class, those that ``**kwargs`` hand to its bases included."""
    cls = _class_of(type_name)
    if cls is None:
        return set()
    names: set[str] = set()
    makers = (
        [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)] if inspect.isclass(cls) else []
    )
    for make in makers or [cls]:
        parameters = list(inspect.signature(make).parameters.values())[1 if makers else 0 :]  # without self
        kinds = {parameter.kind for parameter in parameters}
        names |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return names


def _accepts(type_name: str | type, parameter: str) -> bool:
    return parameter in _parameters(type_name)


def nearest(key: str, known: set[str] | frozenset[str]) -> str:
    """The end of a sentence that refuses ``key``: the known name that is most like it, or all of them."""
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(sorted(known))}."
