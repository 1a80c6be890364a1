"""Checkpoints: plain, small, never executed; tested without training, with and without EMA."""

import itertools
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader, Runner
from small_procedural import small_procedural

from mmreid_text.engine.hooks.plain_checkpoint_hook import load_from_plain_file

COUNTER = itertools.count()


def build(tmp_path, **options):
    cfg = small_procedural(
        tmp_path,
        num_test_ids=4,
        **{
            "val_dataloader": None,
            "val_cfg": None,
            "val_evaluator": None,
            "default_hooks.checkpoint.save_best": None,
            "work_dir": str(tmp_path / "run"),
            "experiment_name": f"{tmp_path.name}_{next(COUNTER)}",
            "visualizer.vis_backends": [],
            **options,
        },
    )
    return Runner.from_cfg(cfg)


def test_checkpoints_hold_plain_values(tmp_path):
    build(tmp_path).train()
    checkpoint = torch.load(tmp_path / "run/epoch_1.pth", weights_only=True)
    assert checkpoint["meta"]["epoch"] == 1
    assert "optimizer" in checkpoint


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_checkpoint_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "extra": Payload()}, "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth cannot be read as tensors"):
        CheckpointLoader.load_checkpoint("evil.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ValueError, match=r"raw\.pth cannot be read"):
        load_from_plain_file("raw.pth")
    assert not Path("executed").exists()


def test_a_fetched_checkpoint_is_read_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    urls = []

    def fetch(url, path):
        urls.append(url)
        torch.save({"evil": Payload()} if "evil" in url else {"url": url}, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    for url in ("https://a.example/epoch_1.pth", "http://b.example/epoch_1.pth", "https://a.example/epoch_1.pth"):
        assert CheckpointLoader.load_checkpoint(url) == {"url": url}
    assert len(urls) == 2  # the third was kept
    with pytest.raises(ValueError, match="cannot be read as tensors"):
        CheckpointLoader.load_checkpoint("https://a.example/evil.pth")
    assert not Path("executed").exists()


def test_lack_of_memory_is_not_damage(tmp_path, monkeypatch):
    torch.save({"state_dict": {}}, tmp_path / "whole.pth")

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(torch.OutOfMemoryError):
        load_from_plain_file(str(tmp_path / "whole.pth"))


def test_truncated_checkpoint_is_named(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:700])
    with pytest.raises(ValueError, match=r"cut\.pth cannot be read"):
        load_from_plain_file(str(tmp_path / "cut.pth"))


def test_testing_without_checkpoint_uses_the_pretrained_weights(tmp_path):
    runner = build(tmp_path)
    before = runner.model.text_encoder.projection.weight.clone()
    metrics = runner.test()
    packaged = torch.load(runner.model.pretrained, weights_only=True)["state_dict"]
    after = runner.model.text_encoder.projection.weight
    assert torch.equal(after, packaged["text_encoder.projection.weight"].float())
    assert not torch.equal(after, before)
    assert set(metrics) >= {"procedural_street/R1", "mean/R1"}


def test_testing_with_checkpoint_uses_it(tmp_path):
    build(tmp_path).train()
    state = torch.load(tmp_path / "run/epoch_1.pth", weights_only=True)["state_dict"]
    runner = build(tmp_path, load_from=str(tmp_path / "run/epoch_1.pth"))
    runner.test()
    assert all(torch.equal(v, state[k]) for k, v in runner.model.state_dict().items())


@pytest.mark.parametrize("content", [{"visual.proj": torch.zeros(1)}, {"state_dict": {"visual.proj": torch.zeros(1)}}])
def test_a_checkpoint_of_another_model_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "clip.pth")
    with pytest.raises(
        ValueError, match=r"clip\.pth is not a checkpoint of this project's model.*init_cfg\.checkpoint"
    ):
        build(tmp_path, load_from=str(tmp_path / "clip.pth")).test()


def test_ema_trains_resumes_and_is_what_a_checkpoint_tests(tmp_path):
    hooks = [dict(type="NoiseAwareMaskingHook"), dict(type="EMAHook", momentum=0.5)]
    build(tmp_path, custom_hooks=hooks).train()
    build(tmp_path, custom_hooks=hooks, resume=True, **{"train_cfg.max_epochs": 2}).train()
    checkpoint = torch.load(tmp_path / "run/epoch_2.pth", weights_only=True)
    assert checkpoint["meta"]["epoch"] == 2
    assert "ema_state_dict" in checkpoint


def test_accumulation_steps_once_per_group(tmp_path):
    runner = build(tmp_path, **{"optim_wrapper.accumulative_counts": 2, "optim_wrapper.optimizer.lr": 1e-3})
    runner.train()
    steps = {int(s["step"]) for s in runner.optim_wrapper.optimizer.state_dict()["state"].values()}
    assert steps == {1}  # 64 captions in two batches of 32
