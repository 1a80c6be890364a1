"""Experiments: run once, resumed, compared with what is known of the data."""

import numpy as np
import pytest
from small_procedural import small_procedural

from mmreid_text.engine.noise_table import NoiseTable
from mmreid_text.engine.training_run import run_test, train_and_test
from mmreid_text.procedural.experiment import ceilings, last_noise_table, noise_auc
from mmreid_text.registry import DATASETS


@pytest.fixture
def cfg(tmp_path):
    return small_procedural(tmp_path)


def test_a_finished_run_is_not_repeated_and_another_config_starts_over(cfg, tmp_path):
    first = train_and_test(cfg, tmp_path / "run")
    assert {"procedural_street/R1", "procedural_mall/R1", "procedural_station/R1", "mean/R1"} <= first.keys()
    written = (tmp_path / "run/epoch_1.pth").stat().st_mtime_ns
    assert train_and_test(cfg, tmp_path / "run") == first
    assert (tmp_path / "run/epoch_1.pth").stat().st_mtime_ns == written
    cfg.train_cfg.max_epochs = 2
    train_and_test(cfg, tmp_path / "run")
    assert last_noise_table(tmp_path / "run").name == "noise_epoch_2.npz"
    assert (tmp_path / "run/epoch_1.pth").stat().st_mtime_ns > written


def test_pictures_are_drawn_for_every_test_set(cfg, tmp_path):
    run_test(cfg, tmp_path / "run", None, hooks=[dict(type="RankStripHook", num_queries=2, top=3)])
    assert len(list((tmp_path / "run/rank_strips").glob("*.png"))) == 3


def test_ceiling_is_high_and_not_perfect(cfg):
    for member in cfg.test_dataloader.dataset.datasets:
        member.num_ids = 60
    top = ceilings(cfg)
    assert 80 < top["mean/R1"] <= 100
    assert top["mean/mAP"] < 100


def test_auc_is_100_for_a_table_that_knows_and_near_50_for_one_that_does_not(cfg, tmp_path):
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    wrong, _, real = dataset.token_truth()
    assert 0 < wrong.sum() < real.sum()
    table = NoiseTable(len(dataset), dataset.fingerprint)
    rng = np.random.default_rng(0)
    table.rows[:] = rng.integers(100, 150, table.rows.shape)
    table.save(tmp_path / "noise_epoch_1.npz", 1)
    chance = noise_auc(cfg, tmp_path / "noise_epoch_1.npz")
    assert abs(chance["noise_auc"] - 50) < 20
    table.rows[:, 1:76] = np.where(wrong, 200, 100)
    table.save(tmp_path / "noise_epoch_2.npz", 2)
    assert noise_auc(cfg, tmp_path / "noise_epoch_2.npz") == {"noise_auc": 100.0, "noise_auc_attributes": 100.0}


def test_auc_refuses_the_table_of_other_captions(cfg, tmp_path):
    NoiseTable(3, "other").save(tmp_path / "noise_epoch_1.npz", 1)
    with pytest.raises(ValueError, match="noise of other captions"):
        noise_auc(cfg, tmp_path / "noise_epoch_1.npz")


def test_a_run_without_table_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="was it trained with NoiseAwareMaskingHook"):
        last_noise_table(tmp_path)
