"""Files that are whole or not there, and checkpoints that are written so."""

from types import SimpleNamespace

import pytest
from mmengine.fileio import get_file_backend
from mmengine.logging import MessageHub

from mmreid_text.atomic_write import remove_leftovers, written_beside
from mmreid_text.engine.hooks import AtomicCheckpointHook
from mmreid_text.engine.hooks.atomic_checkpoint_hook import BACKEND


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with written_beside(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "new"


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(IsADirectoryError), written_beside(path) as beside:
        beside.write_text(str(tmp_path.read_bytes()))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_leftovers_of_the_pattern_go(tmp_path):
    for name in (".epoch_1.pth.12", ".epoch_1.pth.bak", ".notes.12", "epoch_1.pth"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path, "*.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".epoch_1.pth.bak", ".notes.12", "epoch_1.pth"]


@pytest.mark.parametrize("keys", [["x/R1"], ["x/R1", "y/R1"]])
def test_the_best_checkpoint_stays_until_a_better_one_stands(keys, tmp_path):
    writes = []
    backend = get_file_backend(backend_args={"backend": BACKEND})

    def save(out_dir, filename, *args, **kwargs):
        writes.append((filename, sorted(p.name for p in tmp_path.iterdir())))
        backend.put(b"", tmp_path / filename)

    runner = SimpleNamespace(
        work_dir=str(tmp_path),
        _resume=False,
        epoch=0,
        iter=0,
        message_hub=MessageHub.get_instance(f"best{len(keys)}"),
        logger=SimpleNamespace(info=lambda text: None),
        save_checkpoint=save,
    )
    hook = AtomicCheckpointHook(interval=1, max_keep_ckpts=1, save_best=keys, rule="greater")
    hook.before_train(runner)
    for epoch, score in enumerate([10.0, 5.0, 20.0], start=1):
        runner.epoch = epoch - 1
        hook._save_checkpoint(runner)
        runner.epoch = epoch
        hook._save_best_checkpoint(runner, dict.fromkeys(keys, score))
    best = [f"best_{key.replace('/', '_')}_epoch_3.pth" for key in keys]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*best, "epoch_3.pth", "last_checkpoint"])
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "epoch_3.pth")
    for name, before in writes[1:]:
        if name == "epoch_3.pth":
            assert {"epoch_2.pth"} <= set(before) or {"epoch_3.pth"} <= set(before)
        if name in best:  # the first one's predecessor stands while it is written
            assert name.replace("3", "1") in before
