"""IRRA's arithmetic in plain torch over a state dict in its own names, in float64, for tests of peers' checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

VOCAB, MASK, SOT, EOT = 49408, 49405, 49406, 49407


@dataclass(frozen=True)
class Sizes:
    """Of a checkpoint; ``ids`` and ``blocks`` are None where it has no such head."""

    width: int = 64
    depth: int = 2
    patch: int = 8
    grid: tuple[int, int] = (6, 2)
    twidth: int = 64
    tdepth: int = 2
    dim: int = 64
    ids: int | None = 11
    blocks: int | None = 2
    context: int = 77

    @property
    def img_size(self) -> tuple[int, int]:
        return self.grid[0] * self.patch, self.grid[1] * self.patch


def random_state(sizes: Sizes, seed: int) -> dict[str, torch.Tensor]:
    """Arbitrary weights of a scale that keeps features near 1."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, std: float | None = None, around: float = 0.0) -> torch.Tensor:
        std = shape[-1] ** -0.5 if std is None else std
        return around + std * torch.randn(shape, generator=generator)

    state: dict[str, torch.Tensor] = {}

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"] = draw(width, std=0.1, around=1.0)
        state[f"{name}.bias"] = draw(width, std=0.1)

    def linear(name: str, inner: int, outer: int) -> None:
        state[f"{name}.weight"] = draw(outer, inner)
        state[f"{name}.bias"] = draw(outer, std=0.1)

    def attention(name: str, width: int) -> None:
        state[f"{name}.in_proj_weight"] = draw(3 * width, width)
        state[f"{name}.in_proj_bias"] = draw(3 * width, std=0.1)
        linear(f"{name}.out_proj", width, width)

    def blocks(name: str, width: int, depth: int) -> None:
        for i in range(depth):
            block = f"{name}.resblocks.{i}"
            attention(f"{block}.attn", width)
            norm(f"{block}.ln_1", width)
            norm(f"{block}.ln_2", width)
            linear(f"{block}.mlp.c_fc", width, 4 * width)
            linear(f"{block}.mlp.c_proj", 4 * width, width)

    clip = "base_model."
    rows, columns = sizes.grid
    state[f"{clip}positional_embedding"] = draw(sizes.context, sizes.twidth, std=0.3)
    state[f"{clip}text_projection"] = draw(sizes.twidth, sizes.dim, std=sizes.twidth**-0.5)
    state[f"{clip}visual.class_embedding"] = draw(sizes.width, std=0.3)
    state[f"{clip}visual.positional_embedding"] = draw(rows * columns + 1, sizes.width, std=0.3)
    state[f"{clip}visual.proj"] = draw(sizes.width, sizes.dim, std=sizes.width**-0.5)
    state[f"{clip}visual.conv1.weight"] = draw(
        sizes.width, 3, sizes.patch, sizes.patch, std=(3 * sizes.patch**2) ** -0.5
    )
    norm(f"{clip}visual.ln_pre", sizes.width)
    norm(f"{clip}visual.ln_post", sizes.width)
    blocks(f"{clip}visual.transformer", sizes.width, sizes.depth)
    blocks(f"{clip}transformer", sizes.twidth, sizes.tdepth)
    state[f"{clip}token_embedding.weight"] = draw(VOCAB, sizes.twidth, std=0.3)
    norm(f"{clip}ln_final", sizes.twidth)
    if sizes.ids is not None:
        linear("classifier", sizes.dim, sizes.ids)
    if sizes.blocks is not None:
        attention("cross_attn", sizes.dim)
        blocks("cross_modal_transformer", sizes.dim, sizes.blocks)
        for name in ("ln_pre_t", "ln_pre_i", "ln_post", "mlm_head.ln"):
            norm(name, sizes.dim)
        linear("mlm_head.dense", sizes.dim, sizes.dim)
        linear("mlm_head.fc", sizes.dim, VOCAB)
    return state


def save_checkpoint(path: Path, state: dict[str, torch.Tensor], half: bool = False, module: bool = False) -> None:
    """A file as its training leaves it; ``half`` stores as half what IRRA converts, ``module`` is DataParallel's."""
    kept = ("token_embedding", "positional_embedding", "class_embedding", "ln_")
    stored: dict[str, Any] = {}
    for key, value in state.items():
        prefix = "module." if module else ""
        converted = half and not any(part in key for part in kept) and "mlm_head.ln" not in key
        stored[prefix + key] = value.half() if converted else value
    torch.save(
        {
            "model": stored,
            "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-5}]},
            "scheduler": {"milestones": (20, 50), "last_epoch": 3, "_last_lr": [1e-5]},
            "num_epoch": 60,
            "iteration": 100,
            "epoch": 3,
        },
        path,
    )


def random_text(count: int, length: int, seed: int) -> torch.Tensor:
    """Captions int64 (count, length) of many lengths, some words masked, zeros beyond EOT."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.zeros(count, length, dtype=torch.int64)
    for row in text:
        end = int(torch.randint(1, length, (1,), generator=generator))
        row[1:end] = torch.randint(1, MASK, (end - 1,), generator=generator)
        row[1:end][torch.rand(end - 1, generator=generator) < 0.2] = MASK
        row[0], row[end] = SOT, EOT
    return text


class Restated:
    """What IRRA computes from a state dict, attention by ``nn.MultiheadAttention`` with the sequence first."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = {key: value.double() for key, value in state.items()}

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        return self._image_tokens(image)[:, 0]

    def encode_text(self, text: torch.Tensor) -> torch.Tensor:
        return self._text_tokens(text)[torch.arange(len(text)), text.argmax(dim=1)]

    def identity_logits(self, feats: torch.Tensor) -> torch.Tensor:
        return self._linear(feats.double(), "classifier")

    def masked_language_logits(self, text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        words, patches = self._text_tokens(text), self._norm(self._image_tokens(image), "ln_pre_i")
        heads = max(words.shape[-1] // 64, 1)
        query, key = self._norm(words, "ln_pre_t").transpose(0, 1), patches.transpose(0, 1)
        x = self._attend(query, key, "cross_attn", heads, None)  # no residual
        x = self._blocks(x, "cross_modal_transformer", None)
        x = self._norm(x.transpose(0, 1), "ln_post")
        x = self._quick_gelu(self._linear(x, "mlm_head.dense"))
        return self._linear(self._norm(x, "mlm_head.ln"), "mlm_head.fc")

    def _image_tokens(self, image: torch.Tensor) -> torch.Tensor:
        s, p = self.state, "base_model.visual"
        weight = s[f"{p}.conv1.weight"]
        patches = F.conv2d(image.double(), weight, stride=weight.shape[-1]).flatten(2).transpose(1, 2)
        first = s[f"{p}.class_embedding"].expand(len(image), 1, -1)
        x = torch.cat([first, patches], dim=1) + s[f"{p}.positional_embedding"]
        x = self._blocks(self._norm(x, f"{p}.ln_pre").transpose(0, 1), f"{p}.transformer", None).transpose(0, 1)
        return self._norm(x, f"{p}.ln_post") @ s[f"{p}.proj"]

    def _text_tokens(self, text: torch.Tensor) -> torch.Tensor:
        s, n = self.state, text.shape[1]
        x = s["base_model.token_embedding.weight"][text] + s["base_model.positional_embedding"][:n]
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        x = self._blocks(x.transpose(0, 1), "base_model.transformer", future).transpose(0, 1)
        return self._norm(x, "base_model.ln_final") @ s["base_model.text_projection"]

    def _blocks(self, x: torch.Tensor, name: str, mask: torch.Tensor | None) -> torch.Tensor:
        heads, i = max(x.shape[-1] // 64, 1), 0
        while f"{name}.resblocks.{i}.ln_1.weight" in self.state:
            block = f"{name}.resblocks.{i}"
            y = self._norm(x, f"{block}.ln_1")
            x = x + self._attend(y, y, f"{block}.attn", heads, mask)
            y = self._quick_gelu(self._linear(self._norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"))
            x = x + self._linear(y, f"{block}.mlp.c_proj")
            i += 1
        return x

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, name: str, heads: int, mask: torch.Tensor | None
    ) -> torch.Tensor:
        attention = nn.MultiheadAttention(query.shape[-1], heads, dtype=torch.float64)
        names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
        attention.load_state_dict({end: self.state[f"{name}.{end}"] for end in names})
        return attention(query, key, key, attn_mask=mask, need_weights=False)[0]

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def _quick_gelu(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)
