"""Advisory locks that end with the process that holds them."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_held: set[TextIO] = set()


@contextmanager
def alone(lock: Path, refusal: str | None = None) -> Iterator[None]:
    """Hold the lock of a file or folder in the making; no other process passes until the block ends.

    The lock is freed when the process dies, in whatever way, though children that it forked live on. On a file system
    without locks the block runs unguarded.

    Args:
        lock: The file to lock, made where there is none, its folder as well, and removed when the block ends.
        refusal: What to say where another process holds the lock; None waits for it.

    Raises:
        ValueError: Another process holds the lock: ``refusal``, with the process in parentheses.
    """
    file = _locked(lock, refusal)
    _held.add(file)
    try:
        yield
    finally:
        if file in _held:  # else this is a child that was forked meanwhile
            if _is_at(file, lock):  # before the lock is freed: who waits for it sees that, and makes another file
                lock.unlink()
            _held.remove(file)
            file.close()


def _locked(lock: Path, refusal: str | None) -> TextIO:
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(lock, "a+")  # noqa: SIM115 - it stays open while the lock is held
        except FileNotFoundError:  # its holder has just removed the folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if refusal else 0))
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise ValueError(f"{refusal} ({holder})") from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                file.close()
                raise
        if _is_at(file, lock):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file
        file.close()


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _leave_to_the_parent() -> None:
    """A forked child that outlives its parent must not go on holding the lock."""
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_leave_to_the_parent)
