"""Trains a tiny model on processes that come and go: ``elastic_run.py FOLDER PHASES``, a JSON list of phases.

In a phase ``world`` processes train up to epoch ``epochs`` in ``FOLDER/work``, going on from what is there.
``kill`` = [rank, epoch] kills a rank amid an epoch, ``kill_writing`` = name kills the writer of this file half way.
``FOLDER/report.json`` gets for each phase the ``codes`` that processes ended with, the ``files`` in the work folder,
the ``epoch`` of its last checkpoint, and the captions ``seen`` in its last epoch.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from fork_ranks import fork_ranks
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

import mmreid_text  # noqa: F401
from mmreid_text.datasets import write_caption_table
from mmreid_text.engine.config import set_start
from mmreid_text.engine.distributed import first_failure_speaks, prepare_distributed
from mmreid_text.engine.noise_table import NoiseTable
from mmreid_text.registry import HOOKS

GLOBAL_BATCH = 6
IMAGES = 9  # two captions each: 18, three batches


@HOOKS.register_module()
class KillHook(Hook):
    """Kills a rank amid an epoch."""

    def __init__(self, rank: int, epoch: int) -> None:
        self.rank, self.epoch = rank, epoch

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if (runner.rank, runner.epoch, batch_idx) == (self.rank, self.epoch, 1):
            os.kill(os.getpid(), signal.SIGKILL)


def kill_writing(name: str) -> None:
    """Cut the file of this name in half before it takes its place, and die."""
    fsync = os.fsync

    def cut(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.name.startswith(f".{name}."):
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = cut


def make_table(folder: Path) -> Path:
    path = folder / "train.arrow"
    if path.exists():
        return path
    generator = np.random.default_rng(0)
    words = ["red", "green", "blue", "coat", "hat", "bag", "shoes", "walks", "stands"]
    columns: dict[str, list] = {"image": [], "caption": [], "pid": [], "image_id": []}
    for i in range(IMAGES):
        Image.fromarray(generator.integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        for _ in range(2):
            caption = " ".join(generator.choice(words, generator.integers(3, 8)))
            for key, value in zip(columns, (f"{i}.png", caption, i, i)):
                columns[key].append(value)
    write_caption_table(path, [{**columns, "split": "train"}], "tiny", str(folder))
    return path


def config(folder: Path, world: int, epochs: int, kill: list[int] | None) -> Config:
    size = {"width": 16, "depth": 2, "heads": 2, "embed_dim": 8}
    steps = ["LoadImage", "RandomFlip", "Tokenize", "PackSample"]
    hooks = [dict(type="NoiseAwareMaskingHook")]
    if kill:
        hooks.append(dict(type="KillHook", rank=kill[0], epoch=kill[1]))
    return Config(
        dict(
            default_scope="mmreid_text",
            work_dir=str(folder / "work"),
            launcher="pytorch" if world > 1 else "none",
            randomness=dict(seed=0),
            model=dict(
                type="DualEncoder",
                image_encoder=dict(type="CLIPVisionEncoder", patch_size=8, img_size=(32, 16), **size),
                text_encoder=dict(type="CLIPTextEncoder", **size),
                losses=[dict(type="SDMLoss", tau=0.5)],
                token_noise=dict(type="PatchSimilarityNoise", layer=1),
            ),
            train_dataloader=dict(
                batch_size=GLOBAL_BATCH // world,
                sampler=dict(type="DefaultSampler", shuffle=True),
                collate_fn=dict(type="default_collate"),
                dataset=dict(
                    type="TextReIDDataset", table=str(make_table(folder)), pipeline=[dict(type=s) for s in steps]
                ),
            ),
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type="Adam", lr=1e-3, eps=1e-3)),
            param_scheduler=[dict(type="CosineAnnealingLR", by_epoch=True, T_max=8, convert_to_iter_based=True)],
            default_hooks=dict(
                checkpoint=dict(type="AtomicCheckpointHook", interval=1, max_keep_ckpts=1),
                dataset_epoch=dict(type="DatasetEpochHook"),
                plain_checkpoint=dict(type="PlainCheckpointHook"),
                resume=dict(type="ResumeHook"),
            ),
            custom_hooks=hooks,
        )
    )


def train(rank: int, folder: Path, world: int, epochs: int, kill: list[int] | None, writing: str) -> None:
    torch.manual_seed(0)
    cfg = config(folder, world, epochs, kill)
    set_start(cfg, "auto")
    prepare_distributed(cfg, cfg.launcher)
    if writing:
        kill_writing(writing)
    write = NoiseTable.write

    def noted(table: NoiseTable, caption_id: np.ndarray, noise: np.ndarray) -> None:
        with (folder / f"epoch_{runner.epoch + 1}.seen").open("a") as file:
            file.write("".join(f"{i}\n" for i in caption_id))
        write(table, caption_id, noise)

    NoiseTable.write = noted
    with first_failure_speaks():
        runner = Runner.from_cfg(cfg)
        runner.train()


def run_phase(folder: Path, world: int, epochs: int, kill: list[int] | None = None, kill_writing: str = "") -> dict:
    for path in folder.glob("*.seen"):
        path.unlink()
    codes = fork_ranks(world, lambda rank: train(rank, folder, world, epochs, kill, kill_writing))
    last = Path((folder / "work/last_checkpoint").read_text())
    seen = folder / f"epoch_{epochs}.seen"
    return {
        "codes": codes,
        "files": sorted(path.name for path in (folder / "work").iterdir() if path.is_file()),
        "epoch": torch.load(last, weights_only=True)["meta"]["epoch"],
        "seen": sorted(map(int, seen.read_text().split())) if seen.exists() else [],
    }


if __name__ == "__main__":
    root = Path(sys.argv[1])
    make_table(root)
    report = [run_phase(root, **phase) for phase in json.loads(sys.argv[2])]
    (root / "report.json").write_text(json.dumps(report))
