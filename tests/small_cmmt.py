"""A run of CMMT with pseudo labels within seconds: the tiny CLIP's start on drawn people, four images of each."""

import itertools
from pathlib import Path

from mmengine.config import Config

from mmreid_text.engine.config import load_config

COUNTER = itertools.count()
BASES = Path(__file__).parents[1] / "configs/_base_"
STEPS = [dict(type="LoadImage"), dict(type="Tokenize", max_length=32), dict(type="PackSample")]
LABELS = dict(type="PseudoLabelHook", k1=6, k2=2, min_samples=2, batch_size=20)
PEOPLE = 12


def small_cmmt(
    folder: Path, epochs: int = 1, labels: dict | None = None, workers: int = 0, work_dir: str = "run", **model: object
) -> Config:
    """Config of a run without validation; ``labels`` are further arguments of the hook."""
    base = load_config(str(BASES / "models/cmmt_tiny.py"))
    people = dict(
        type="ProceduralPedestrians",
        domain="street",
        num_ids=PEOPLE,
        images_per_id=4,
        cache_dir=str(folder / "cache"),
        pipeline=[STEPS[0], dict(type="RandomFlip"), *STEPS[1:]],
    )
    return Config(
        dict(
            default_scope="mmreid_text",
            work_dir=str(folder / work_dir),
            experiment_name=f"{folder.name}_{next(COUNTER)}",
            log_level="WARNING",
            randomness=dict(seed=0),
            model={**base.model, "iou_losses": [], "losses": [dict(type="ITCLoss", tau=0.05)], **model},
            test_pipeline=STEPS,
            train_dataloader=dict(
                batch_size=16,
                num_workers=workers,
                sampler=dict(type="ArraySampler"),
                collate_fn=dict(type="default_collate"),
                dataset=people,
            ),
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type="Adam", lr=1e-3)),
            default_hooks=dict(
                checkpoint=dict(type="AtomicCheckpointHook", interval=1),
                dataset_epoch=dict(type="DatasetEpochHook"),
                plain_checkpoint=dict(type="PlainCheckpointHook"),
                resume=dict(type="ResumeHook"),
            ),
            custom_hooks=[LABELS | (labels or {})],
            visualizer=dict(type="Visualizer", vis_backends=[]),
        )
    )
