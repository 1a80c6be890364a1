"""Ranks by fork, for scripts that need several process groups after each other: modules are imported once."""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

import torch
import torch.distributed as dist


def fork_ranks(world: int, function: Callable[[int], None], seconds: float = 120) -> list[int]:
    """Run ``function(rank)`` in so many processes of a gloo group, and return their exit codes.

    As torchrun does, the first rank that fails ends the others: with SIGTERM, exit code -15.
    """
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.flush()
        sys.stderr.flush()
        pids = [_fork(rank, world, f"{folder}/store", function) for rank in range(world)]
        codes: dict[int, int] = {}
        end = time.monotonic() + seconds
        while len(codes) < world:
            for pid in pids:
                if pid not in codes:
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        codes[pid] = os.waitstatus_to_exitcode(status)
            if any(codes.values()) or time.monotonic() > end:
                for pid in pids:
                    if pid not in codes:
                        os.kill(pid, signal.SIGTERM if time.monotonic() < end else signal.SIGKILL)
            time.sleep(0.02)
    return [codes[pid] for pid in pids]


def _fork(rank: int, world: int, store: str, function: Callable[[int], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        torch.set_num_threads(1)  # a pool of threads does not come through a fork
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
        if world > 1:
            dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
        function(rank)
        if dist.is_initialized():
            dist.destroy_process_group()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
