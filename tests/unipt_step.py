"""Tiny models of UniPT's and a batch for them; as a script, a step of each on two ranks, which rank 0 saves."""

import sys

import torch
import torch.distributed as dist
from fork_ranks import fork_ranks
from mmengine.model import MMDistributedDataParallel
from two_process_step import step

from mmreid_text.registry import MODELS

PAIRS, PIECES, IDENTITIES = 8, 60, 5
SIZES = dict(width=32, depth=2, heads=4, embed_dim=24)
PGU = dict(type="mmreid_text.PGU", queries=3, depth=2, heads=2, head_dim=8, mlp_width=16, embed_dim=10)


def tiny_bert_encoders(**text: object) -> dict[str, dict[str, object]]:
    """Encoders without dropout unless told."""
    return dict(
        image_encoder=dict(type="mmreid_text.ViTEncoder", patch_size=8, img_size=(32, 16), **SIZES),
        text_encoder={
            **dict(type="mmreid_text.BertTextEncoder", vocab_size=PIECES, context_length=24, dropout=0.0),
            **SIZES,
            **text,
        },
    )


def tiny_unipt(text: dict[str, object] | None = None, **options: object) -> torch.nn.Module:
    """UniPT in float64, whose features are far from each other."""
    torch.manual_seed(0)
    losses = [dict(type="mmreid_text.ITCLoss", tau=0.07, learnable=True)]
    return _spread(
        MODELS.build({"type": "mmreid_text.UniPT", "losses": losses, **tiny_bert_encoders(**(text or {})), **options})
    )


def tiny_retriever(**options: object) -> torch.nn.Module:
    """The fine-tuned model in float64."""
    torch.manual_seed(0)
    heads = dict(num_ids=IDENTITIES, pgu=PGU, losses=[dict(type="mmreid_text.RankingLoss", margin=0.5)])
    return _spread(
        MODELS.build({"type": "mmreid_text.UniPTRetriever", **tiny_bert_encoders(), **heads, "gamma": 0.5, **options})
    )


def tiny_separate() -> torch.nn.Module:
    """Encoders that are trained apart, in float64."""
    torch.manual_seed(0)
    return _spread(MODELS.build(dict(type="mmreid_text.SeparateEncoders", num_ids=IDENTITIES, **tiny_bert_encoders())))


def _spread(model: torch.nn.Module) -> torch.nn.Module:
    for name, parameter in model.named_parameters():
        if name.endswith(("projection.weight", "classifier.weight", "classifiers.0.weight")):
            torch.nn.init.normal_(parameter)
    return model.double()


def unipt_batch() -> dict[str, torch.Tensor]:
    """Eight pairs of four identities; caption *i* has *i* % 4 masked words, one of which stays as it is."""
    generator = torch.Generator().manual_seed(1)
    text, labels = torch.zeros(2, PAIRS, 16, dtype=torch.int64)
    for i in range(PAIRS):
        text[i, : i + 5] = torch.randint(5, PIECES, (i + 5,), generator=generator)
        labels[i, 1 : 1 + i % 4] = text[i, 1 : 1 + i % 4]
    masked = text.clone()
    masked[:, 2:][labels[:, 2:] != 0] = 4
    pid = torch.arange(PAIRS) // 2  # positives on both ranks
    image = torch.randn(PAIRS, 3, 32, 16, generator=generator, dtype=torch.float64)
    return dict(image=image, text=text, masked_text=masked, mlm_labels=labels, pid=pid, label=pid.clone())


if __name__ == "__main__":

    def work(rank: int) -> None:
        batch = {key: value[rank::2] for key, value in unipt_batch().items()}  # every other pair, as a sampler deals
        results = {}
        for make in (tiny_unipt, tiny_retriever, tiny_separate):
            model = MMDistributedDataParallel(make(), device_ids=None, broadcast_buffers=False)
            results[make.__name__] = step(model, batch)
        if dist.get_rank() == 0:
            torch.save(results, sys.argv[1])

    sys.exit(any(fork_ranks(2, work)))
