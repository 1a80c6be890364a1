"""The demo's config at a size that trains and tests within seconds."""

from pathlib import Path

from mmengine.config import Config

from mmreid_text.engine.config import load_config

CONFIG = str(Path(__file__).parents[1] / "configs/nam/tiny_procedural.py")


def small_procedural(folder: Path, num_test_ids: int = 6, **options: object) -> Config:
    """16 training identities, ``num_test_ids`` in every validation and test set, all drawn below ``folder``."""
    cache = str(folder / "cache")
    cfg = load_config(
        CONFIG,
        {
            "train_dataloader.dataset.num_ids": 16,
            "train_dataloader.dataset.cache_dir": cache,
            "train_dataloader.batch_size": 32,
            "train_dataloader.num_workers": 0,
            "train_dataloader.persistent_workers": False,
            "train_cfg.max_epochs": 1,
            **options,
        },
    )
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        if loader is not None:
            for member in loader.dataset.datasets:
                member.update(num_ids=num_test_ids, cache_dir=cache)
    return cfg
