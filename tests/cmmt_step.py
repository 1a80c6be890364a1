"""Two training steps of a tiny CMMT on two ranks that share a fixed batch; rank 0 saves them."""

import sys

import torch
import torch.distributed as dist
from fork_ranks import fork_ranks
from mmengine.model import MMDistributedDataParallel
from two_process_step import global_batch, tiny_encoders

from mmreid_text.registry import MODELS


def tiny_cmmt(**options: object) -> torch.nn.Module:
    """A CMMT with every loss, float64."""
    torch.manual_seed(0)
    losses = dict(
        losses=[dict(type="mmreid_text.CMPMLoss", tau=0.05)],
        iou_losses=[
            dict(type="mmreid_text.TextIoUCMPMLoss", tau=0.05, loss_weight=2.0),
            dict(type="mmreid_text.HardMiningLoss", positive=0.3, negative=0.1, start=2),
        ],
        cluster_memory=dict(type="mmreid_text.ClusterMemory", loss_weight=0.5),
        cmpc=dict(type="mmreid_text.CMPCLoss"),
    )
    return MODELS.build({"type": "mmreid_text.CMMT", **tiny_encoders(), **losses, **options}).double()


def pairs() -> dict[str, torch.Tensor]:
    """Eight pairs: four images with two captions each, whose rows are told in another order."""
    batch = global_batch(torch.float64)
    del batch["masked_text"]
    return dict(
        batch,
        image_id=torch.tensor([2, 2, 0, 0, 3, 3, 1, 1]),
        caption_id=torch.tensor([4, 5, 0, 1, 6, 7, 2, 3]),
    )


def bring_labels(model: torch.nn.Module) -> None:
    """Two image clusters and three of captions, with outliers; unequally many on two ranks."""
    generator = torch.Generator().manual_seed(3)
    image, text = (torch.nn.functional.normalize(torch.randn(n, 24, generator=generator), dim=1) for n in (2, 3))
    model.set_pseudo_labels(torch.tensor([0, 0, -1, 1]), torch.tensor([0, 0, -1, 2, 1, 1, -1, 2]), image, text)


def two_steps(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Losses, gradients and memories; the second step reads memories that the first one moved."""
    inner = getattr(model, "module", model)
    inner.set_phrases(torch.tensor([0, 2, 4, 6, 6, 9, 10, 10, 12]), torch.tensor([0, 1, 1, 2, 3, 4, 0, 1, 2, 4, 3, 4]))
    inner.set_epoch(2)
    bring_labels(inner)
    for memory in inner.memories.values():
        memory.centroids = memory.centroids.double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        losses = model(**batch, mode="loss")
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return dict(
        losses={name: loss.detach() for name, loss in losses.items()},
        grads={name: p.grad for name, p in inner.named_parameters()},
        memories={side: memory.centroids for side, memory in inner.memories.items()},
    )


def run_rank(rank: int) -> None:
    """Every other pair, as a distributed sampler deals them."""
    world = dist.get_world_size()
    model = MMDistributedDataParallel(tiny_cmmt(), device_ids=None, broadcast_buffers=False)
    result = two_steps(model, {key: value[rank::world] for key, value in pairs().items()})
    memories = [None] * world
    dist.all_gather_object(memories, result["memories"])
    assert all(torch.equal(own[side], memories[0][side]) for own in memories for side in own)
    if rank == 0:
        torch.save(result, sys.argv[1])


if __name__ == "__main__":
    sys.exit(max(map(abs, fork_ranks(2, run_rank))))
