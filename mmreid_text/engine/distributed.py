"""Process groups on CPU and GPU hosts, gathers whose gradients are exact, and ranks that die."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config

LAUNCHER_SECONDS = 20.0
"""How long a rank that lost another one waits for its launcher to end it: the launcher reports who fell first."""


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return all_gather(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # (W * B, ...)
        grad = grad.clone(memory_format=torch.contiguous_format)  # autograd may hold on to the one it gave
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def world_size() -> int:
    """Number of processes in the group, 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_gather(x: torch.Tensor) -> torch.Tensor:
    """Concatenate a tensor of every rank, in rank order, without gradient.

    Args:
        x: (B, ...), the same shape on all ranks.

    Returns:
        (W * B, ...), or ``x`` itself where there is one process.
    """
    if world_size() == 1:
        return x
    x = x.contiguous()  # NCCL wants the parts contiguous, too
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x)
    return torch.cat(parts)


def all_gather_with_grad(x: torch.Tensor) -> torch.Tensor:
    """Concatenate a tensor of every rank, in rank order; gradients flow back to the rank that owns each row.

    Meant for losses that every rank computes over the whole batch: backward sums the ranks' equal gradients and
    DistributedDataParallel averages them, so parameters receive just the gradient of one process on the whole batch.

    Args:
        x: (B, ...), the same shape on all ranks.

    Returns:
        (W * B, ...), or ``x`` itself where there is one process.
    """
    return x if world_size() == 1 else _AllGather.apply(x)


def prepare_distributed(cfg: Config, launcher: str) -> None:
    """Make a config run under ``torchrun`` on a host without GPU.

    mmengine's own start-up asks for a GPU driver and hands a device id to DistributedDataParallel; with gloo
    initialised first and ``device_ids=None`` neither happens. On GPU hosts nothing changes.

    Args:
        cfg: Config; ``model_wrapper_cfg`` is set in place. ``env_cfg.dist_cfg.timeout`` are the seconds after which a
            collective gives up, 1800 with gloo unless stated.
        launcher: ``none``, ``pytorch`` or ``slurm``.
    """
    if launcher == "none" or torch.cuda.is_available():
        return
    if not dist.is_initialized():
        if launcher == "slurm":
            raise RuntimeError("launcher 'slurm' needs GPUs; on CPU nodes start torchrun with --launcher pytorch")
        seconds = cfg.get("env_cfg", {}).get("dist_cfg", {}).get("timeout", 1800)
        dist.init_process_group("gloo", timeout=timedelta(seconds=seconds))
    wrapper = cfg.get("model_wrapper_cfg") or dict(
        type="MMDistributedDataParallel",
        broadcast_buffers=False,
        find_unused_parameters=cfg.get("find_unused_parameters", False),
    )
    wrapper.update(device_ids=None)
    cfg.model_wrapper_cfg = wrapper


@contextmanager
def first_failure_speaks() -> Iterator[None]:
    """Where a rank dies, let its error stand, not those of the ranks that lost it.

    A rank whose collective breaks because another one is gone says so in one line and waits to be ended by its
    launcher; where none does, it ends by itself after :data:`LAUNCHER_SECONDS`. Other errors pass.
    """
    try:
        yield
    except Exception as error:
        if world_size() == 1 or not _lost_a_rank(error):
            raise
        reason = str(error).strip().splitlines()[0]
        print(f"rank {dist.get_rank()} stops: it lost another rank ({reason})", file=sys.stderr, flush=True)
        time.sleep(LAUNCHER_SECONDS)
        traceback.print_exc()  # no launcher ended us, so perhaps no other rank fell and this error is the first
        print("Repeat the command with --resume to go on after the last finished epoch.", file=sys.stderr, flush=True)
        os._exit(1)  # an ordinary exit may wait for the lost rank


def leave_group() -> None:
    """End a run in which all went well: wait for the other ranks, then leave the process group.

    A rank that ends while another one still works, such as rank 0 on its last checkpoint, may abort as gloo is torn
    down, and the launcher would end the other one as well.
    """
    if world_size() > 1:
        dist.barrier()
        dist.destroy_process_group()


def _lost_a_rank(error: Exception) -> bool:
    words = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
