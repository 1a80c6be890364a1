"""Results that say by which protocol their weights were chosen."""

import ast
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmreid_text.datasets.splits import PROTOCOLS
from mmreid_text.evaluation.metrics import ReIDMetric
from mmreid_text.registry import HOOKS

TEST_SELECTED = "test-selected"


@HOOKS.register_module()
class ProtocolHook(Hook):
    """Tells every ``ReIDMetric`` by which protocol the weights were chosen, so that it marks its results.

    In training that is the config's ``protocol``. In testing it is the one of the run that the checkpoint comes from,
    whatever the config says that it is tested with: checkpoints state it. A run that starts from weights that were
    chosen on the test split stays ``test-selected``, and says so when it starts.

    Weights that others chose, such as IRRA's, state nothing. They are marked where the config's protocol is not the
    default one, and nothing is said of them otherwise. CLIP's, which nobody chose on the test set, are never marked.

    :func:`~mmreid_text.engine.config.load_config` adds this hook to every config.

    Use in configs::

        default_hooks = dict(protocol=dict(type='ProtocolHook'))
    """

    def __init__(self) -> None:
        self._trains = False
        self._start: str | None = None
        self._others = False

    def before_run(self, runner: Runner) -> None:
        """Look at the weights that the model starts from; a checkpoint that is loaded later counts in their place."""
        model = runner.cfg.get("model")
        init_cfg = (model.get("init_cfg") if isinstance(model, Mapping) else None) or {}
        checkpoint = init_cfg.get("checkpoint")
        if checkpoint and not self._trains:
            content = _content(Path(checkpoint).expanduser())
            self._start = stated_protocol(content.get("meta"))
            self._others = isinstance(content.get("model"), Mapping)  # so IRRA saves its runs; CLIP's files are plain

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note what the checkpoint states."""
        self._start = stated_protocol(checkpoint.get("meta"))

    def before_train(self, runner: Runner) -> None:
        """From here on weights are chosen by the config's protocol."""
        self._trains = True
        if self._start == TEST_SELECTED != runner.cfg.get("protocol", "val"):
            print_log(
                f"The weights that this run starts from were chosen on the test split, so its results are marked "
                f"{TEST_SELECTED!r}, too.",
                logger="current",
                level=logging.WARNING,
            )

    def before_val(self, runner: Runner) -> None:
        """Mark the results of validation."""
        self._mark(runner, runner.val_evaluator.metrics)

    def before_test(self, runner: Runner) -> None:
        """Mark the results of the test."""
        self._mark(runner, runner.test_evaluator.metrics)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """State the protocol in the checkpoint."""
        checkpoint["meta"]["protocol"] = self.protocol(runner)

    def protocol(self, runner: Runner) -> str | None:
        """By which the weights that the runner holds now were chosen; None where that is not known."""
        own = runner.cfg.get("protocol", "val")
        if self._trains:
            return TEST_SELECTED if self._start == TEST_SELECTED else own
        chosen = runner._load_from is not None or self._others
        return self._start or (own if own != "val" and chosen else None)

    def _mark(self, runner: Runner, metrics: list[Any]) -> None:
        for metric in metrics:
            if isinstance(metric, ReIDMetric):
                metric.protocol = self.protocol(runner)


def stated_protocol(meta: Mapping[str, Any] | None) -> str | None:
    """Protocol that a checkpoint's ``meta`` states, itself or in the config's text there, which is read, never run."""
    stated = (meta or {}).get("protocol")
    if stated is None and isinstance(text := (meta or {}).get("cfg"), str):
        try:
            lines = ast.parse(text).body
        except (SyntaxError, ValueError, RecursionError):
            lines = []
        for line in lines:
            if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant):
                stated = line.value.value if getattr(line.targets[0], "id", None) == "protocol" else stated
    return stated if stated in PROTOCOLS else None


def protocol_of_file(path: Path) -> str | None:
    """Protocol that a weight file states; None where it is no checkpoint of this project. Tensors are not read."""
    return stated_protocol(_content(path).get("meta"))


def _content(path: Path) -> Mapping[str, Any]:
    """What a weight file holds; nothing where it is no file or cannot be read."""
    if path.suffix not in (".pth", ".pt") or not path.is_file():
        return {}
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # its reader will say what is wrong with it
        return {}
    return content if isinstance(content, Mapping) else {}
