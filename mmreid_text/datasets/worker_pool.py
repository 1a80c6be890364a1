"""Processes that share a long job: one that is killed ends it with a clear error, and none outlives it."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import parent_process
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def worker_pool(
    jobs: int, task: str, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> Iterator[Executor]:
    """``jobs`` processes, at least one; they end with the block, or with this process, however it is killed.

    A multiprocessing.Pool would wait for ever for a process that the system killed.

    Args:
        jobs: Number of processes, from the tool's option ``--jobs``.
        task: What they do, as "decoding images".
        initializer: Called in each process first.
        initargs: Its arguments.

    Raises:
        ChildProcessError: A process was killed.
    """
    pool = ProcessPoolExecutor(max(1, jobs), initializer=_start, initargs=(initializer, initargs))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise lost_worker(task, "--jobs") from error
    finally:
        pool.shutdown(cancel_futures=True)


def lost_worker(task: str, option: str) -> ChildProcessError:
    """The error of a job that lost a process; ``option`` sets their number."""
    return ChildProcessError(
        f"A process that was {task} ended abruptly, most likely killed by the system for want of memory. The same "
        f"command goes on from what is done; give it fewer processes with {option}."
    )


def map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """``function`` of each item, in order; unlike ``Executor.map``, only ``ahead`` items are handed over in advance."""
    rest = iter(items)
    waiting: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(rest, ahead))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, item) for item in islice(rest, 1))


def _start(initializer: Callable[..., None] | None, initargs: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
