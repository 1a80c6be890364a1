"""Three ranks go through seven captions, two at a time: ``uneven_steps.py OUT`` saves the steps of rank 0."""

import sys

import torch
from fork_ranks import fork_ranks
from mmengine.model import MMDistributedDataParallel
from two_process_step import global_batch, step, tiny_model

from mmreid_text.datasets.samplers import ArraySampler

CAPTIONS, WORLD, BATCH = 7, 3, 2


def work(rank: int) -> None:
    model = MMDistributedDataParallel(tiny_model(torch.float64), device_ids=None, broadcast_buffers=False)
    batch, rows, steps = global_batch(torch.float64), list(ArraySampler(range(CAPTIONS), shuffle=False)), []
    for start in range(0, len(rows), BATCH):
        model.zero_grad()
        part = rows[start : start + BATCH]
        result = step(model, {key: value[part] for key, value in batch.items()})
        steps.append(
            {"rows": part, "losses": result["losses"], "grads": {k: g.clone() for k, g in result["grads"].items()}}
        )
    torch.save(steps, f"{sys.argv[1]}.{rank}")


if __name__ == "__main__":
    sys.exit(any(fork_ranks(WORLD, work)))
