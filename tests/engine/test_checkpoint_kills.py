"""A run that is killed at any moment and resumed leaves the files of one that was not, and takes nobody else's."""

import os
import signal
import traceback
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

import mmreid_text.engine.hooks  # noqa: F401 - once, not in every forked run
from mmreid_text.datasets.transforms.tokenizer import EOT, SOT
from mmreid_text.registry import METRICS

SCORES = {"x/R1": [0.0, 1.0, 2.0, 0.0, 0.0], "y/R1": [0.0, 2.0, 1.0, 0.0, 0.0]}
"""By epochs trained."""
THEIRS = ["epoch_77.pth", "best_x_R1_epoch_77.pth", "best_mine.pth", "noise_epoch_mine.npz", "epoch_1_copy.pth"]


class Captions(Dataset):
    fingerprint = "captions"

    def set_seed(self, seed): ...

    def set_epoch(self, epoch): ...

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return {"caption_id": i, "text": torch.tensor([SOT, 5 + i, 7, EOT])}


class Counter(BaseModel):
    """Counts its steps, one of which is an epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, text, mode="loss", **_):
        if mode == "predict":
            return [int(self.steps)]
        self.steps += 1
        self.last_noise = torch.zeros(text.shape)
        return {"loss": self.weight.square()}


@METRICS.register_module()
class ScriptedMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        return {key: scores[results[0]] for key, scores in SCORES.items()}


def train(folder, epochs=2, **checkpoint):
    loader = {"batch_size": 2, "collate_fn": {"type": "default_collate"}, "num_workers": 0}
    Runner(
        model=Counter(),
        work_dir=str(folder / "work"),
        train_dataloader={**loader, "dataset": Captions(), "sampler": {"type": "DefaultSampler", "shuffle": True}},
        val_dataloader={**loader, "dataset": Captions(), "sampler": {"type": "DefaultSampler", "shuffle": False}},
        train_cfg={"by_epoch": True, "max_epochs": epochs, "val_interval": 1},
        val_cfg={},
        val_evaluator={"type": "ScriptedMetric"},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        default_hooks={
            "checkpoint": {
                **{"type": "AtomicCheckpointHook", "interval": 1, "max_keep_ckpts": 1},
                **{"save_best": list(SCORES), "rule": "greater", **checkpoint},
            },
            "dataset_epoch": {"type": "DatasetEpochHook"},
            "plain_checkpoint": {"type": "PlainCheckpointHook"},
            "resume": {"type": "ResumeHook"},
        },
        custom_hooks=[{"type": "NoiseAwareMaskingHook"}],
        resume=True,
        default_scope="mmreid_text",
        log_level="ERROR",
        experiment_name=f"{folder.name}_run",
    ).train()


def kill_when(condition):
    """From now on, die before the first file operation, numbered from 0, for whose number ``condition`` holds.

    Operations are those that put or remove a file of the run.
    """
    count = -1

    def guarded(operation):
        def run(path, *args, **kwargs):
            nonlocal count
            target = Path((path, *args)[-1])  # of two, the new name
            if target.suffix in (".pth", ".npz") or target.name == "last_checkpoint":
                count += 1
                if condition(count):
                    os.kill(os.getpid(), signal.SIGKILL)
            return operation(path, *args, **kwargs)

        return run

    for name in ("replace", "remove", "unlink"):
        setattr(os, name, guarded(getattr(os, name)))


def in_process(task, *args, **kwargs):
    """Run in a forked process; whether it was killed."""
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        os.fsync = lambda descriptor: None  # slow where many tests run, and no power is cut here
        try:
            task(*args, **kwargs)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def killed(condition, folder, **options):
    """Train until killed, see :func:`kill_when`; whether it came to that."""

    def task():
        kill_when(condition)
        train(folder, **options)

    return in_process(task)


def files(folder):
    return {path.name for path in (folder / "work").iterdir() if path.is_file() and path.suffix != ".py"}


def put_theirs(folder):
    (folder / "work").mkdir(parents=True)
    for name in THEIRS:
        (folder / "work" / name).write_text("theirs")


def test_killed_before_any_operation_and_resumed_no_file_is_left_over(tmp_path):
    ours = {"epoch_2.pth", "noise_epoch_2.npz", "last_checkpoint", "best_x_R1_epoch_2.pth", "best_y_R1_epoch_1.pth"}
    for event in range(100):
        folder = tmp_path / str(event)
        put_theirs(folder)
        stopped = killed(lambda count, event=event: count == event, folder)
        if stopped:
            assert not in_process(train, folder)
        assert files(folder) == ours | set(THEIRS), f"killed before operation {event}"
        assert (folder / "work/last_checkpoint").read_text() == str(folder / "work/epoch_2.pth")
        assert all((folder / "work" / name).read_text() == "theirs" for name in THEIRS)
        if not stopped:
            break
    assert event >= 14


def test_only_what_the_run_replaced_is_removed(tmp_path):
    work, other = tmp_path / "run/work", tmp_path / "else/work"
    assert killed(lambda _: {"epoch_1.pth", "epoch_2.pth"} <= files(tmp_path / "run"), tmp_path / "run", save_best=None)
    (work / "last_checkpoint").write_text(str(work / "epoch_2.pth"))  # the next operation
    # A run that goes on from here in another folder, where somebody else's checkpoint is.
    other.mkdir(parents=True)
    (other / "epoch_1.pth").write_text("theirs")
    (other / "last_checkpoint").write_text(str(work / "epoch_2.pth"))
    assert not in_process(train, tmp_path / "else", epochs=3, save_best=None)
    assert (other / "epoch_1.pth").read_text() == "theirs"
    assert (work / "epoch_1.pth").exists()
    # Put there after the kill, or before.
    written = (work / "epoch_2.pth").stat().st_mtime_ns
    for later in (1, -1):
        os.utime(work / "epoch_1.pth", ns=(written + later, written + later))
        assert not in_process(train, tmp_path / "run", save_best=None)
        assert (work / "epoch_1.pth").exists() == (later > 0)
    assert (work / "epoch_2.pth").exists()


def test_an_epoch_that_is_the_best_no_more_leaves_no_best_checkpoint(tmp_path, monkeypatch):
    both = {"best_x_R1_epoch_1.pth", "best_x_R1_epoch_2.pth"}
    assert killed(lambda _: both <= files(tmp_path), tmp_path, save_best="x/R1")
    monkeypatch.setitem(SCORES, "x/R1", [0.0, 1.0, 0.5])  # another machine computes otherwise
    assert not in_process(train, tmp_path, save_best="x/R1")
    assert {name for name in files(tmp_path) if name.startswith("best")} == {"best_x_R1_epoch_1.pth"}


def test_what_was_kept_on_purpose_stays(tmp_path):
    assert not in_process(train, tmp_path, epochs=2, save_best=None, max_keep_ckpts=-1)
    assert killed(lambda _: {"epoch_3.pth", "epoch_4.pth"} <= files(tmp_path), tmp_path, epochs=4, save_best=None)
    assert not in_process(train, tmp_path, epochs=4, save_best=None)
    kept = {name for name in files(tmp_path) if name.startswith("epoch")}
    assert kept == {"epoch_1.pth", "epoch_2.pth", "epoch_4.pth"}
