"""Options that change a config, each checked to its last key before anything is set."""

import copy
import difflib
import inspect
import re
from collections.abc import Mapping
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
# What mmengine takes out of settings before it builds their class.
_EXTRA_KEYS = frozenset({"type", "_scope_", "_delete_", "priority", "convert_to_iter_based"})
# By the type of model.init_cfg: its keys that name a file, a folder, a URL or a hub name, and that options may add.
WEIGHT_KEYS = {"CLIPPretrained": ("checkpoint",), "EncoderWeights": ("image", "text", "checkpoint")}


def apply_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Set options of a config.

    A dict joins the settings that are there; with ``_delete_=True`` in it, it takes their place.

    Args:
        cfg: Config, changed in place; not where an option is refused.
        options: Dotted keys and values; not changed.

    Raises:
        KeyError: An option, or a key in its value, names nothing; states the nearest known name.
        ValueError: A value would stand for settings, or settings for a value.
    """
    for key, value in options.items():
        _check_option(cfg, key.split("."), value)
    for key, value in options.items():
        _set_option(cfg._cfg_dict, key.split("."), value)


def _check_option(cfg: Config, parts: list[str], value: Any) -> None:
    node: Any = cfg._cfg_dict
    option = ".".join(parts)
    for i, part in enumerate(parts):
        above = ".".join(parts[:i])
        if above in FREE_KEYS:
            return
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                raise KeyError(f"option {option}: {part!r} is no index of a list of {len(node)}")
            node = node[int(part)]
            continue
        if node is None:
            raise KeyError(f"option {option}: {above} is None; set the whole dict, in a config file of your own")
        if not isinstance(node, Mapping):
            raise KeyError(f"option {option}: {above} is a value, it has no key {part!r}")
        if part not in node:
            known = set(node) | (TOP_LEVEL_KEYS if i == 0 else parameters_of(node.get("type")) | _untyped_keys(above))
            known.update(WEIGHT_KEYS.get(node.get("type", ""), ()))
            if part in known:  # a constructor's argument that the config leaves at its default
                _check_settings(option, value)
                return
            raise KeyError(f"option {option}: {part!r} names nothing.{nearest(part, known)}")
        node = node[part]
    if option not in FREE_KEYS:
        _check_value(cfg, parts, value, node)


def _check_value(cfg: Config, parts: list[str], value: Any, old: Any) -> None:
    """Refuse a value that cannot stand where the old one does, or that has keys which name nothing."""
    option = ".".join(parts)
    if isinstance(value, Mapping):
        if isinstance(old, (list, tuple)):
            raise ValueError(
                f"option {option}: a dict cannot join a list of {len(old)}. Give a list, or name the element: "
                f"{option}.0, ..."
            )
        replaces = value.get("_delete_", False)
        if old is not None and not isinstance(old, Mapping) and not replaces:
            raise ValueError(f"option {option}: a dict cannot join {old!r}; with _delete_=True it takes its place.")
        settings = {} if replaces or old is None else old
        if value.get("type", settings.get("type")) != settings.get("type"):  # the other type's arguments count
            _check_settings(option, value)
        elif settings:
            for key in value.keys() - {"_delete_"}:
                _check_option(cfg, [*parts, str(key)], value[key])
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_settings(f"{option}.{i}", item)
    elif isinstance(value, (str, int, float)):
        if isinstance(old, Mapping):
            raise ValueError(
                f"option {option}: {value!r} cannot stand for a dict of settings: {', '.join(map(str, old))}"
            )
        if isinstance(old, (list, tuple)) and any(isinstance(item, Mapping) for item in old):
            raise ValueError(f"option {option}: {value!r} cannot stand for a list of {len(old)} dicts of settings")


def _check_settings(option: str, value: Any) -> None:
    """Refuse keys that the class of new settings does not take; what is registered nowhere yet passes."""
    cls = class_of(value.get("type")) if isinstance(value, Mapping) else None
    if cls is None or _hands_on(cls):
        return
    known = parameters_of(value["type"]) | _untyped_keys(option) | set(WEIGHT_KEYS.get(value["type"], ())) | _EXTRA_KEYS
    for key in value:
        if key not in known:
            raise KeyError(f"option {option}.{key}: {value['type']} takes no {key!r}.{nearest(key, known)}")


def _hands_on(cls: Any) -> bool:
    """Whether a class of others takes any argument: to what it hands ``**kwargs`` is not known, as EMAHook's."""
    kinds = {parameter.kind for parameter in inspect.signature(cls).parameters.values()}
    return inspect.Parameter.VAR_KEYWORD in kinds and not cls.__module__.startswith("mmreid_text.")


def _set_option(node: Any, parts: list[str], value: Any) -> None:
    """mmengine's ``merge_from_dict`` keeps ``_delete_`` where it deletes nothing, and shares the value."""
    for part in parts[:-1]:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, ConfigDict())
    key: Any = int(parts[-1]) if isinstance(node, list) else parts[-1]
    old = node[key] if isinstance(node, list) else node.get(key)
    node[key] = ConfigDict(made=_joined(old, value))["made"]


def _joined(old: Any, value: Any) -> Any:
    """What stands where a value joins an old one; new throughout, without ``_delete_``."""
    if isinstance(value, (list, tuple)):
        return type(value)(_joined(None, item) for item in value)
    if not isinstance(value, Mapping):
        return copy.deepcopy(value)
    kept = old if isinstance(old, Mapping) and not value.get("_delete_") else {}
    return {**kept, **{key: _joined(kept.get(key), item) for key, item in value.items() if key != "_delete_"}}


def _untyped_keys(path: str) -> set[str]:
    """What mmengine or the model reads of a node beside, or without, the arguments of its ``type``."""
    if re.fullmatch(r"model\.(losses\.\d+|cluster_memory|cmpc)", path):
        return {"loss_weight"}
    if re.fullmatch(r"model\.iou_losses\.\d+", path):
        return {"loss_weight", "start"}
    if path.endswith("_dataloader"):
        from torch.utils.data import DataLoader

        return parameters_of(DataLoader) | {"batch_sampler", "num_batch_per_epoch"}
    if path == "log_processor":
        from mmengine.runner import LogProcessor

        return parameters_of(LogProcessor) | {"type"}
    if path == "randomness":
        from mmengine.runner import Runner

        return set(inspect.signature(Runner.set_randomness).parameters) - {"self"}
    fixed = {
        "env_cfg": {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"},
        "optim_wrapper": {"constructor", "paramwise_cfg"},
        "auto_scale_lr": {"enable", "base_batch_size"},
    }
    return fixed.get(path, set())


def class_of(type_name: str | type | None) -> Any:
    """A registered class or function; None where the name is not registered."""
    if not isinstance(type_name, str):
        return type_name
    registries = (r for r in vars(registry).values() if isinstance(r, registry.Registry))
    return next(filter(None, (r.get(type_name) for r in registries)), None)


def parameters_of(type_name: str | type | None) -> set[str]:
    """Names of the arguments that build a registered class, those that ``**kwargs`` hand to its bases included."""
    cls = class_of(type_name)
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


def accepts(type_name: str | type, parameter: str) -> bool:
    return parameter in parameters_of(type_name)


def nearest(key: str, known: set[str] | frozenset[str]) -> str:
    """The end of a sentence that refuses ``key``: the known name that is most like it, or all of them."""
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(sorted(known))}."
