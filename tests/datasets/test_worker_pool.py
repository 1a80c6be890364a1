"""Pools: a killed process ends the job with one clear error, and none outlives a killed job."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets.worker_pool import map_ahead, worker_pool


def die_at_seven(number):
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_process_is_named_as_such():
    found = []
    message = "process that was counting ended abruptly, .*memory.*goes on.*fewer processes with --jobs"
    with pytest.raises(ChildProcessError, match=message), worker_pool(2, "counting") as pool:
        found.extend(map_ahead(pool, die_at_seven, range(1000), 3))
    assert found == list(range(len(found)))
    assert len(found) <= 7


def test_errors_of_the_task_pass():
    with pytest.raises(ZeroDivisionError), worker_pool(1, "dividing") as pool:
        list(map_ahead(pool, (1).__truediv__, [1, 0], 2))


class Counting(Executor):
    """A pool of no processes that knows how many results wait to be taken."""

    def __init__(self):
        self.waiting = self.most = 0

    def submit(self, function, item):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        future = Future()
        future.set_result(function(item))
        return future


@settings(max_examples=30, deadline=None)
@given(items=st.lists(st.integers(), max_size=20), ahead=st.integers(1, 6))
def test_items_are_taken_in_order_and_not_far_ahead(items, ahead):
    pool, found = Counting(), []
    for result in map_ahead(pool, abs, items, ahead):
        pool.waiting -= 1
        found.append(result)
    assert found == [abs(item) for item in items]
    assert pool.most <= ahead


JOB = """
import json, os, sys, time
from mmreid_text.datasets.worker_pool import map_ahead, worker_pool

def work(number):
    time.sleep(0.05)
    return os.getpid()

with worker_pool(3, "sleeping") as pool:
    pids = set()
    for pid in map_ahead(pool, work, range(100_000), 6):
        if pid not in pids:
            pids.add(pid)
            print(json.dumps(sorted(pids)), flush=True)
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_process_outlives_a_killed_job():
    with subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE, text=True) as job:
        pids = []
        while len(pids) < 3:
            pids = json.loads(job.stdout.readline())
        assert all(map(alive, pids))
        job.kill()
        job.stdout.close()
    deadline = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, pids))
