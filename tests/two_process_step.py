"""``two_process_step.py OUT DTYPE MICRO_BATCH``: two ranks take one training step of a tiny DualEncoder; OUT is it."""

import sys

import torch
from fork_ranks import fork_ranks
from mmengine.model import MMDistributedDataParallel

from mmreid_text.registry import MODELS

PAIRS = 8


def tiny_encoders() -> dict[str, dict[str, object]]:
    sizes = dict(width=32, depth=3, heads=4, embed_dim=24)
    return dict(
        image_encoder=dict(type="mmreid_text.CLIPVisionEncoder", patch_size=8, img_size=(32, 16), **sizes),
        text_encoder=dict(type="mmreid_text.CLIPTextEncoder", **sizes),
    )


def tiny_model(dtype: torch.dtype, micro_batch: int | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="mmreid_text.DualEncoder",
            losses=[dict(type="mmreid_text.SDMLoss"), dict(type="mmreid_text.ITCLoss")],
            token_noise=dict(type="mmreid_text.PatchSimilarityNoise", layer=2),
            micro_batch=micro_batch,
            **tiny_encoders(),
        )
    )
    return model.to(dtype)


def global_batch(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    text = torch.zeros(PAIRS, 77, dtype=torch.int64)
    for i in range(PAIRS):
        words = 3 + i
        ids = torch.randint(1, 49404, (words,), generator=generator)
        text[i, : words + 2] = torch.cat([torch.tensor([49406]), ids, torch.tensor([49407])])
    masked = text.clone()
    masked[:, 2] = 49405
    return dict(
        image=torch.randn(PAIRS, 3, 32, 16, generator=generator).to(dtype),
        text=text,
        masked_text=masked,
        pid=torch.arange(PAIRS) // 2,  # positives on both ranks
    )


def step(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict:
    losses = model(**batch, mode="loss")
    sum(losses.values()).backward()
    inner = getattr(model, "module", model)
    return dict(
        losses={k: v.detach() for k, v in losses.items()},
        grads={name: p.grad for name, p in inner.named_parameters() if p.grad is not None},
        noise=inner.last_noise,
    )


def step_of_two_ranks(out: str, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> int:
    """Save rank 0's losses and gradients where two share a batch; returns whether a rank failed."""

    def work(rank: int) -> None:
        ranked = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
        # Ranks take every other pair, as a distributed sampler deals them.
        result = step(ranked, {key: value[rank::2] for key, value in batch.items()})
        if rank == 0:
            torch.save(result, out)

    return int(any(fork_ranks(2, work)))


if __name__ == "__main__":
    out, dtype, micro_batch = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3]) or None
    sys.exit(step_of_two_ranks(out, tiny_model(dtype, micro_batch), global_batch(dtype)))
