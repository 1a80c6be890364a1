"""Checkpoints that a kill cannot damage."""

import os
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmreid_text.atomic_write import remove_leftovers, write_text, written_beside
from mmreid_text.engine.hooks.resume_hook import resumed_checkpoint
from mmreid_text.registry import HOOKS

BACKEND = "local_atomic"
REPLACED = "replaced_ckpts"
"""Key of a checkpoint's message hub: names of the checkpoints in its folder that it replaces."""


class AtomicLocalBackend(LocalBackend):
    """Local files, written beside and renamed; mmengine's own backend writes over what is there."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes, all or none."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(path) as beside:
            beside.write_bytes(obj)


register_backend(BACKEND, AtomicLocalBackend, force=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, of which a kill at any moment leaves the previous checkpoint usable.

    Checkpoints and ``last_checkpoint`` are written beside and renamed, and an older checkpoint is removed only when the
    new one stands. Every checkpoint names those that it replaces, so a run that was killed before it could remove them
    does so when it is resumed, and removes nothing else. Arguments: :class:`~mmengine.hooks.CheckpointHook`.

    Use in configs::

        default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"backend_args": {"backend": BACKEND}, **kwargs})
        self._resumed_step: int | None = None
        self._best_before: dict[str, str | None] = {}

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed run left half written, or had replaced and not yet removed."""
        super().before_train(runner)
        checkpoint = resumed_checkpoint(runner)
        step = runner.epoch if self.by_epoch else runner.iter
        if checkpoint is None or not _same_file(checkpoint, self._path(step)):  # a run in another folder is not ours
            self._resumed_step = None
        else:
            self._resumed_step = step
        if not is_main_process():
            return
        remove_leftovers(Path(self.out_dir), "*.pth")
        remove_leftovers(Path(runner.work_dir), "last_checkpoint")
        if self._resumed_step is not None:
            written = os.stat(self._path(step)).st_mtime_ns
            for name in runner.message_hub.runtime_info.get(REPLACED, []):
                path = os.path.join(self.out_dir, name)
                if os.path.isfile(path) and os.stat(path).st_mtime_ns <= written:  # else it was put there since
                    self._remove(path)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        stale = None
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                stale = self._path(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        replaced = [os.path.basename(path) for path in (stale, *self._beaten()) if path is not None]
        runner.message_hub.update_info(REPLACED, replaced)
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_text(Path(runner.work_dir) / "last_checkpoint", self.last_ckpt)
            self._remove(stale)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        # The base class removes the best checkpoint that it knows of before it saves a better one.
        self._best_before = self._best()
        self._know_best(dict.fromkeys(self._best_before))
        super()._save_best_checkpoint(runner, metrics)
        beaten, after = self._beaten(), self._best()
        self._know_best({key: after[key] or old for key, old in self._best_before.items()})
        self._best_before = {}
        if not is_main_process():
            return
        for path in beaten:
            self._remove(path)
        step = runner.epoch if self.by_epoch else runner.iter
        if step == self._resumed_step:  # validated before, and killed when only the best checkpoint was written
            best = {os.path.basename(path) for path in self._best().values() if path}
            for key in self.key_indicators:
                name = f"best_{key}_{self.filename_tmpl.format(step)}".replace("/", "_")
                if name not in best:
                    self._remove(os.path.join(self.out_dir, name))

    def _best(self) -> dict[str, str | None]:
        """Paths of the best checkpoints by what they are best in; a single one's key is ''."""
        return dict(self.best_ckpt_path_dict) if len(self.key_indicators) > 1 else {"": self.best_ckpt_path}

    def _know_best(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) > 1:
            self.best_ckpt_path_dict = paths
        else:
            self.best_ckpt_path = paths[""]

    def _beaten(self) -> list[str]:
        """Best checkpoints of before to which this validation has found better ones."""
        if not self._best_before:
            return []
        now = self._best()
        return [old for key, old in self._best_before.items() if old is not None and now[key] not in (None, old)]

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _remove(self, path: str | None) -> None:
        if path is not None and self.file_backend.isfile(path):
            self.file_backend.remove(path)


def _same_file(path: Path, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # a URL, or not there
        return False
