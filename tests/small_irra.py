"""A run of a tiny IRRA within seconds, on images and captions of any identities."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from mmreid_text.datasets import write_caption_table

COUNTER = itertools.count()
WORDS = ["red", "green", "blue", "coat", "hat", "bag", "shoes", "walks", "stands"]
STEPS = [dict(type=step) for step in ("LoadImage", "RandomFlip", "Tokenize", "PackSample")]


def write_table(folder: Path, pids: Sequence[int]) -> Path:
    """A training split of one image, with two captions, for each of ``pids``."""
    path, generator = folder / "train.arrow", np.random.default_rng(0)
    columns: dict[str, list] = {"image": [], "caption": [], "pid": [], "image_id": []}
    for i, pid in enumerate(pids):
        Image.fromarray(generator.integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        for _ in range(2):
            caption = " ".join(generator.choice(WORDS, generator.integers(3, 8)))
            for key, value in zip(columns, (f"{i}.png", caption, pid, i)):
                columns[key].append(value)
    write_caption_table(path, [{**columns, "split": "train"}], "tiny", str(folder))
    return path


def small_irra(
    folder: Path, pids: Sequence[int], work_dir: str = "run", epochs: int = 1, **dataloader: object
) -> Config:
    """Config of a run on such a table, which is validated and tested on the same images."""
    table, size = str(write_table(folder, pids)), {"width": 16, "depth": 2, "heads": 2, "embed_dim": 8}
    test_loader = dict(
        batch_size=4,
        sampler=dict(type="ArraySampler", shuffle=False),
        collate_fn=dict(type="pseudo_collate"),
        dataset=dict(type="TextReIDDataset", name="tiny", table=table, pipeline=[STEPS[0], *STEPS[2:]], test_mode=True),
    )
    return Config(
        dict(
            default_scope="mmreid_text",
            work_dir=str(folder / work_dir),
            experiment_name=f"{folder.name}_{next(COUNTER)}",
            log_level="ERROR",
            randomness=dict(seed=0),
            model=dict(
                type="IRRA",
                image_encoder=dict(type="CLIPVisionEncoder", patch_size=8, img_size=(32, 16), **size),
                text_encoder=dict(type="CLIPTextEncoder", **size),
                losses=[dict(type="SDMLoss")],
                relation=dict(type="CrossModalRelation", depth=1),
                num_ids=None,
            ),
            train_dataloader=dict(
                batch_size=4,
                sampler=dict(type="ArraySampler"),
                collate_fn=dict(type="default_collate"),
                dataset=dict(type="TextReIDDataset", table=table, pipeline=STEPS),
            )
            | dataloader,
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=100),
            optim_wrapper=dict(
                constructor="GroupedOptimWrapperConstructor",
                optimizer=dict(type="Adam", lr=1e-3, weight_decay=4e-5),
                paramwise_cfg=dict(rules=[dict(key="cross", lr_mult=5), dict(key="bias", lr_mult=2, decay_mult=0)]),
            ),
            param_scheduler=[dict(type="CosineAnnealingLR", by_epoch=True, T_max=8, convert_to_iter_based=True)],
            test_dataloader=test_loader,
            test_cfg=dict(type="TestLoop"),
            test_evaluator=dict(type="ReIDMetric"),
            default_hooks=dict(
                checkpoint=dict(type="AtomicCheckpointHook", interval=1),
                dataset_epoch=dict(type="DatasetEpochHook"),
                plain_checkpoint=dict(type="PlainCheckpointHook"),
                pretrained_weights=dict(type="PretrainedWeightsHook"),
                resume=dict(type="ResumeHook"),
            ),
            custom_hooks=[
                dict(type="UniformMaskingHook", p=0.15, force_one=True),
                dict(type="IdentityLabelHook"),
            ],
            visualizer=dict(type="Visualizer", vis_backends=[]),
        )
    )
