"""``irra_step.py OUT DTYPE MICRO_BATCH SDM_ON_MASKED``: two ranks take one training step of a tiny IRRA; OUT is it."""

import sys

import torch
from two_process_step import global_batch, step_of_two_ranks, tiny_encoders

from mmreid_text.registry import MODELS

IDENTITIES = 5  # one more than occur, or the gradient of the bias would nearly cancel


def tiny_irra(dtype: torch.dtype = torch.float64, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    heads = dict(num_ids=IDENTITIES, relation=dict(type="mmreid_text.CrossModalRelation", depth=2, heads=3))
    losses = [dict(type="mmreid_text.SDMLoss"), dict(type="mmreid_text.TALLoss")]
    model = MODELS.build({"type": "mmreid_text.IRRA", "losses": losses, **tiny_encoders(), **heads, **options})
    return model.to(dtype)


def irra_batch(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Eight pairs of four identities; caption *i* has *i* % 4 masked words, one of which stays as it is."""
    batch = global_batch(dtype)
    labels = torch.zeros_like(batch["text"])
    masked = batch["text"].clone()
    for i in range(len(masked)):
        labels[i, 1 : 1 + i % 4] = masked[i, 1 : 1 + i % 4]
        masked[i, 2 : 1 + i % 4] = 49405
    return {**batch, "masked_text": masked, "mlm_labels": labels, "label": batch["pid"].clone()}


if __name__ == "__main__":
    out, dtype = sys.argv[1], getattr(torch, sys.argv[2])
    options = dict(micro_batch=int(sys.argv[3]) or None, sdm_on_masked=bool(int(sys.argv[4])))
    # Of every other pair: the ranks draw different numbers of masked words.
    sys.exit(step_of_two_ranks(out, tiny_irra(dtype, **options), irra_batch(dtype)))
