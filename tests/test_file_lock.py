"""Locks: one holder at a time, freed by any death, and nothing left behind."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import threading
import time

import pytest

from mmreid_text.file_lock import alone


def hold(lock, ready, forked):
    """Hold a lock until killed, with a forked child that lives on when ``forked``."""
    with alone(lock):
        child = os.fork() if forked else 0
        if forked and child == 0:
            time.sleep(30)
            os._exit(0)
        ready.put(child)
        time.sleep(30)


@pytest.mark.parametrize("forked", [False, True])
def test_another_process_is_refused_until_the_holder_was_killed(tmp_path, forked):
    lock = tmp_path / "new" / "a.lock"
    context = multiprocessing.get_context("fork")
    ready = context.Queue()
    holder = context.Process(target=hold, args=(lock, ready, forked))
    holder.start()
    child = ready.get(timeout=30)
    refused = rf"^somebody writes a \(process {holder.pid} on .+\)$"
    with pytest.raises(ValueError, match=refused), alone(lock, "somebody writes a"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with alone(lock, "somebody writes a"):
        assert lock.read_text().startswith(f"process {os.getpid()} on ")
    assert not lock.exists()
    if forked:
        os.kill(child, 0)  # still there
        os.kill(child, signal.SIGKILL)


def count_up(folder, times):
    for _ in range(times):
        with alone(folder / "lock"):
            count = folder / "count"
            number = int(count.read_text()) if count.exists() else 0
            time.sleep(0.001)
            count.write_text(str(number + 1))


def test_who_waits_gets_in_one_by_one(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=count_up, args=(tmp_path, 25)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "count").read_text() == "100"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_a_folder_removed_with_its_lock_does_not_take_the_next_holders(tmp_path):
    inside, leave = threading.Event(), threading.Event()

    def second():
        with alone(tmp_path / "work/lock"):
            inside.set()
            leave.wait(30)

    with alone(tmp_path / "work/lock"):
        shutil.rmtree(tmp_path / "work")
        thread = threading.Thread(target=second)
        thread.start()
        assert inside.wait(30)
    with pytest.raises(ValueError, match="busy"), alone(tmp_path / "work/lock", "busy"):
        pass
    leave.set()
    thread.join()


def test_without_locks_the_block_runs(tmp_path, monkeypatch):
    def unsupported(file, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with alone(tmp_path / "a.lock", "refused"), alone(tmp_path / "a.lock", "refused"):
        pass
    monkeypatch.setattr(fcntl, "flock", lambda *args: os.stat("/proc/self/fd/999999"))
    with pytest.raises(FileNotFoundError), alone(tmp_path / "a.lock"):
        pass
