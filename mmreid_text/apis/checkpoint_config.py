"""The config that a checkpoint carries, read as data."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config


def stated_config(checkpoint: Mapping[str, Any], path: str | Path) -> Config:
    """The config of the run that a checkpoint comes from.

    mmengine keeps it as the text of a Python file. It is parsed, and never run: names, calls other than ``dict(...)``
    and imports are refused, so that a checkpoint from a stranger cannot do anything.

    Args:
        checkpoint: Content of the file.
        path: Its name, for errors.

    Raises:
        ValueError: It carries no config, or one that is not plain data.
    """
    text = (checkpoint.get("meta") or {}).get("cfg")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(
            f"checkpoint {path} does not carry the config of its run; give the config as well: "
            "TextReIDInferencer(config, checkpoint), or --config."
        )
    try:
        content = {}
        for node in ast.parse(text).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                raise ValueError(f"line {node.lineno} is no assignment")
            content[node.targets[0].id] = _value(node.value)
        return Config(content)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"checkpoint {path} carries a config that is not plain data ({error}), and what it says is not run. Give "
            "the config as well: TextReIDInferencer(config, checkpoint), or --config."
        ) from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {_name(keyword): _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError(f"line {node.lineno} has a '**'")
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values) if key is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    return ast.literal_eval(node)


def _name(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise ValueError(f"line {keyword.value.lineno} has a '**'")
    return keyword.arg
