"""Runs that are resumed: with another global batch, and where they were stopped."""

from types import SimpleNamespace

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from small_procedural import small_procedural

from mmreid_text.engine.hooks import ResumeHook, resume_hook


def runner(batch_size, by_epoch, resume=True):
    return SimpleNamespace(
        _resume=resume,
        train_dataloader=SimpleNamespace(batch_size=batch_size),
        param_schedulers=[SimpleNamespace(by_epoch=True), SimpleNamespace(by_epoch=by_epoch)],
    )


@pytest.fixture
def checkpoint(monkeypatch):
    """Of a run of 2 x 64, found by 3 processes."""
    content = {"meta": {}}
    monkeypatch.setattr(resume_hook, "get_world_size", lambda: 2)
    ResumeHook().before_save_checkpoint(runner(64, True), content)
    monkeypatch.setattr(resume_hook, "get_world_size", lambda: 3)
    return content


def test_the_global_batch_is_noted(checkpoint):
    assert checkpoint["meta"] == {"global_batch": 128}


def test_a_schedule_by_iterations_wants_the_same_global_batch(checkpoint, monkeypatch):
    message = r"took 128 samples per step, this one 64 x 3 = 192, .*take a number of processes that divides 128"
    with pytest.raises(ValueError, match=message):
        ResumeHook().after_load_checkpoint(runner(64, by_epoch=False), checkpoint)
    monkeypatch.setattr(resume_hook, "get_world_size", lambda: 1)
    with pytest.raises(ValueError, match=r"set train_dataloader\.batch_size=128\."):
        ResumeHook().after_load_checkpoint(runner(64, by_epoch=False), checkpoint)
    ResumeHook().after_load_checkpoint(runner(128, by_epoch=False), checkpoint)


def test_a_schedule_by_epochs_goes_on_with_a_warning(checkpoint, monkeypatch):
    lines = []
    monkeypatch.setattr(resume_hook, "print_log", lambda text, *rest: lines.append(text))
    ResumeHook().after_load_checkpoint(runner(64, by_epoch=True), checkpoint)
    assert len(lines) == 1
    assert "losses over the whole batch change" in lines[0]


def test_only_a_resumed_run_of_a_known_batch_is_compared(checkpoint):
    ResumeHook().after_load_checkpoint(runner(64, by_epoch=False, resume=False), checkpoint)
    ResumeHook().after_load_checkpoint(runner(64, by_epoch=False), {"meta": {}})
    ResumeHook().after_load_checkpoint(runner(None, by_epoch=False), checkpoint)


class Stop(Hook):
    """Ends the run as a kill between saving and validating an epoch would."""

    def before_val(self, runner):
        raise KeyboardInterrupt


def test_a_run_stopped_before_validation_validates_that_epoch_and_keeps_its_seed(tmp_path):
    def build(name, **options):
        options = {"work_dir": str(tmp_path / "run"), "experiment_name": f"{tmp_path.name}_{name}", **options}
        return Runner.from_cfg(small_procedural(tmp_path, **options))

    first = build("first", **{"randomness.seed": 3})
    first.register_hook(Stop())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    assert not list((tmp_path / "run").glob("best_*"))

    second = build("second", resume=True)
    second.train()
    assert [path.name for path in (tmp_path / "run").glob("best_*")] == ["best_mean_R1_epoch_1.pth"]
    assert second.train_dataloader.sampler.seed == 3
