"""Checkpoints that a kill cannot damage."""

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmreid_text.atomic_write import remove_leftovers, write_text, written_beside
from mmreid_text.registry import HOOKS

BACKEND = "local_atomic"


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
    new one stands. Arguments are those of :class:`~mmengine.hooks.CheckpointHook`.

    Use in configs::

        default_hooks = dict(checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=2))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"backend_args": {"backend": BACKEND}, **kwargs})

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed run left half written."""
        super().before_train(runner)
        if is_main_process():
            remove_leftovers(Path(self.out_dir), "*.pth")
            remove_leftovers(Path(runner.work_dir), "last_checkpoint")

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        stale = None
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                stale = self._path(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
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
        many = len(self.key_indicators) > 1
        before = dict(self.best_ckpt_path_dict) if many else {"": self.best_ckpt_path}
        self._know_best(dict.fromkeys(before), many)
        super()._save_best_checkpoint(runner, metrics)
        after = self.best_ckpt_path_dict if many else {"": self.best_ckpt_path}
        self._know_best({key: after[key] or old for key, old in before.items()}, many)
        if is_main_process():
            for key, old in before.items():
                self._remove(old if after[key] not in (None, old) else None)

    def _know_best(self, paths: dict[str, str | None], many: bool) -> None:
        if many:
            self.best_ckpt_path_dict = paths
        else:
            self.best_ckpt_path = paths[""]

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _remove(self, path: str | None) -> None:
        if path is not None and self.file_backend.isfile(path):
            self.file_backend.remove(path)
