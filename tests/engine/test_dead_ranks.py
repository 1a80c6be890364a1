"""A rank that dies: the job ends by itself, and says which rank and how to go on."""

import os
import textwrap

import pytest
import scripts

from mmreid_text.engine import distributed
from mmreid_text.engine.distributed import first_failure_speaks

LAUNCH = "tools/launch.py"
SCRIPT = """
    import os, signal, sys
    import torch, torch.distributed as dist
    from mmreid_text.engine.distributed import first_failure_speaks
    dist.init_process_group("gloo")
    with first_failure_speaks():
        for i in range(10**6):
            if dist.get_rank() == 1 and i == 50:
                if sys.argv[1] == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise ArithmeticError("the loss is not finite")
            dist.all_reduce(torch.ones(1))
"""


@pytest.mark.parametrize(("way", "words"), [("killed", "was ended by SIGKILL"), ("raised", "ended with code 1")])
def test_the_launcher_names_the_rank_and_the_remedy(way, words, tmp_path):
    (tmp_path / "train.py").write_text(textwrap.dedent(SCRIPT))
    done = scripts.run(LAUNCH, "--standalone", "--nproc_per_node=2", tmp_path / "train.py", way)
    assert done.returncode == 1
    error, remedy = done.stderr.strip().splitlines()[-2:]
    assert error.startswith("error: rank 1 (process ")
    aborted = "was ended by SIGABRT; what it said stands above"  # gloo, when it is torn down under a rank that raised
    assert words in error or (way == "raised" and aborted in error)
    assert "repeat the command with --resume" in remedy
    assert ("the loss is not finite" in done.stderr) == (way == "raised")


def test_a_job_that_succeeds_says_nothing(tmp_path):
    (tmp_path / "train.py").write_text("print('done')")
    done = scripts.run(LAUNCH, "--standalone", "--nproc_per_node=1", tmp_path / "train.py")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "done", "")


def test_no_rank_ends_before_the_last_one_is_done(tmp_path):
    script = """
        import sys, time
        from pathlib import Path
        import torch.distributed as dist
        from fork_ranks import fork_ranks
        from mmreid_text.engine.distributed import leave_group
        saved = Path(sys.argv[1])

        def work(rank):
            if rank == 0:
                time.sleep(2)
                saved.touch()
            leave_group()
            assert saved.exists()
            assert not dist.is_initialized()
            leave_group()

        sys.exit(any(fork_ranks(2, work)))
    """
    (tmp_path / "train.py").write_text(textwrap.dedent(script))
    done = scripts.run(tmp_path / "train.py", tmp_path / "saved")
    assert done.returncode == 0, done.stderr


class _Exit(BaseException):
    pass


def test_without_a_launcher_a_rank_that_lost_another_ends_by_itself(monkeypatch, capsys):
    def leave(code):
        raise _Exit(code)

    monkeypatch.setattr(distributed, "LAUNCHER_SECONDS", 0.01)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(_Exit), first_failure_speaks():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [10.0.0.2]:41")
    assert "rank 0 stops: it lost another rank" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="out of memory"), first_failure_speaks():
        raise RuntimeError("CUDA out of memory")
