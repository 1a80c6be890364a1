"""Runs that are resumed with another global batch."""

from types import SimpleNamespace

import pytest

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
