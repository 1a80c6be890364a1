"""Real test runs on two small datasets: ``retrieval_run.py FOLDER``, by one process and by two.

Each draws the images and tests a fixed model with ReIDMetric and RankStripHook; the one goes on to train it.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from fork_ranks import fork_ranks
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image

from mmreid_text.datasets import write_caption_table
from mmreid_text.registry import MODELS

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 230), "white": (245, 245, 245)}
IMAGES = {"left": 7, "right": 4}  # 11 rows: two processes pad one


@MODELS.register_module()
class ColourEncoder(BaseModel):
    """Features from mean colours and from token ids; good enough for some right answers."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.words = torch.nn.Embedding.from_pretrained(torch.randn(49408, 6, generator=generator))
        self.colour = torch.nn.Linear(6, 6)
        torch.nn.init.eye_(self.colour.weight)
        torch.nn.init.zeros_(self.colour.bias)

    def forward(self, image, text, pid, image_id, dataset=None, mode="tensor", **kwargs):
        if mode == "loss":
            return {"loss": (self.words(text).mean(1) - self.colour(self.words(text).mean(1)) * 2).square().mean()}
        results = []
        for i in range(len(image)):
            halves = image[i].float().reshape(3, 2, -1).mean(-1).flatten() / 255  # (6,)
            feats = self.words(text[i].clamp(max=49405)).mean(1)  # (n, 6)
            results.append(
                {
                    "dataset": dataset[i],
                    "image_feat": self.colour(halves).detach(),
                    "text_feats": feats.detach(),
                    "pid": pid[i],
                    "image_id": image_id[i],
                }
            )
        return results


def make_dataset(name: str, folder: Path, test_mode: bool) -> dict:
    generator = np.random.default_rng(len(name))
    columns: dict[str, list] = {"image": [], "caption": [], "pid": [], "image_id": []}
    for i in range(IMAGES[name]):
        upper, lower = generator.choice(list(COLOURS), 2)
        pixels = np.concatenate([np.full((24, 16, 3), COLOURS[colour], np.uint8) for colour in (upper, lower)])
        path = folder / f"{name}_{i}.png"
        if not path.exists():
            Image.fromarray(pixels).save(path)
        for caption in (f"A {upper} coat, {lower} trousers.", "Someone walks.")[: 1 + i % 2]:
            for key, value in zip(columns, (path.name, caption, i // 2, i)):
                columns[key].append(value)
    table = folder / f"{name}.arrow"
    if not table.exists():
        write_caption_table(table, [{**columns, "split": "test"}], name, str(folder))
    steps = [{"type": step} for step in ("LoadImage", "Tokenize", "PackSample")]
    return {"type": "TextReIDDataset", "table": str(table), "pipeline": steps, "test_mode": test_mode}


def run(folder: Path, distributed: bool) -> None:
    test_set = {"type": "ConcatDataset", "datasets": [make_dataset(name, folder, True) for name in IMAGES]}
    loader = {
        "batch_size": 2,
        "dataset": test_set,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "collate_fn": {"type": "pseudo_collate"},
    }
    metric = {"type": "ReIDMetric", "collect_dir": str(folder / "collect") if distributed else None}
    cfg = {
        "model": {"type": "ColourEncoder"},
        "work_dir": str(folder / ("two" if distributed else "one")),
        "test_dataloader": loader,
        "test_evaluator": dict(metric, out_dir=str(folder / ("two" if distributed else "one") / "results")),
        "test_cfg": {},
        "custom_hooks": [{"type": "RankStripHook", "num_queries": 4, "top": 3}],
        "default_scope": "mmreid_text",
        "launcher": "pytorch" if distributed else "none",
        "randomness": {"seed": 0},
    }
    if distributed:
        cfg["model_wrapper_cfg"] = {"type": "MMDistributedDataParallel", "device_ids": None}
    if not distributed:
        train_set = make_dataset("left", folder, False)
        cfg |= {
            "train_dataloader": {
                "batch_size": 4,
                "dataset": train_set,
                "sampler": {"type": "DefaultSampler", "shuffle": True},
                "collate_fn": {"type": "default_collate"},
            },
            "train_cfg": {"by_epoch": True, "max_epochs": 3},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.05}},
            "val_dataloader": loader,
            "val_evaluator": metric,
            "val_cfg": {},
            "default_hooks": {"logger": {"type": "LoggerHook", "interval": 1}},
        }
    runner = Runner.from_cfg(Config(cfg))
    runner.test()
    if not distributed:
        runner.train()


if __name__ == "__main__":
    root = Path(sys.argv[1])
    codes = fork_ranks(1, lambda _: run(root, False)) + fork_ranks(2, lambda _: run(root, True))
    sys.exit(any(codes))
