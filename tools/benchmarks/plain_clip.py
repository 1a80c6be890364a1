"""CLIP and the noise-aware training step as published recipes write them, in plain PyTorch: the step's reference.

Sequence first, nn.MultiheadAttention, an activation of three operations; captions padded to 77; every token of every
kept layer through the final norm and projection; masked and unmasked captions as one batch, so that the backward pass
takes zeros through the unmasked half; an optimiser group per tensor; values fetched from the device one by one.
Parameters have OpenAI's names, which ours can load.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

TAU = 0.02
EPS = 1e-8


class QuickGELU(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A transformer's block over tokens (N, B, W)."""

    def __init__(self, width: int, heads: int, mask: torch.Tensor | None) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.ln_1(x)
        mask = None if self.mask is None else self.mask.to(x.dtype)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Blocks over tokens (N, B, W)."""

    def __init__(self, width: int, depth: int, heads: int, mask: torch.Tensor | None = None) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, mask) for _ in range(depth))

    def run(self, x: torch.Tensor, start: int, stop: int | None = None) -> torch.Tensor:
        for block in self.resblocks[start:stop]:
            x = block(x)
        return x


class Visual(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, patch: int, size: tuple[int, int], dim: int) -> None:
        super().__init__()
        patches = size[0] // patch * (size[1] // patch)
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(1 + patches, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, depth, heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(width**-0.5 * torch.randn(width, dim))

    def forward(self, image: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.conv1(image)  # (B, W, rows, columns)
        x = x.reshape(*x.shape[:2], -1).permute(0, 2, 1)  # (B, M, W)
        first = self.class_embedding + torch.zeros(len(x), 1, x.shape[-1], dtype=x.dtype, device=x.device)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)
        early = self.transformer.run(x.permute(1, 0, 2), 0, layer)
        last = self.transformer.run(early, layer)
        tokens = self.ln_post(torch.cat([last, early]).permute(1, 0, 2)) @ self.proj
        last, early = tokens.chunk(2, dim=1)
        return last[:, 0], early


class PlainCLIP(nn.Module):
    """Two encoders; ``forward`` returns image and text features (B, D) and the noise (B, N) of the unmasked text."""

    def __init__(
        self,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch: int = 16,
        size: tuple[int, int] = (384, 128),
        dim: int = 512,
        text_width: int = 512,
        text_depth: int = 12,
        text_heads: int = 8,
        length: int = 77,
        vocab: int = 49408,
    ) -> None:
        super().__init__()
        self.visual = Visual(width, depth, heads, patch, size, dim)
        mask = torch.full((length, length), float("-inf")).triu(1)
        self.transformer = Transformer(text_width, text_depth, text_heads, mask)
        self.token_embedding = nn.Embedding(vocab, text_width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(length, text_width))
        self.ln_final = nn.LayerNorm(text_width)
        self.text_projection = nn.Parameter(text_width**-0.5 * torch.randn(text_width, dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def encode_text(
        self, text: torch.Tensor, masked_text: torch.Tensor, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.token_embedding(torch.cat([masked_text, text])) + self.positional_embedding
        masked, early = self.transformer.run(x.permute(1, 0, 2), 0, layer).chunk(2, dim=1)
        last = self.transformer.run(masked, layer)
        tokens = self.ln_final(torch.cat([last, early], dim=1).permute(1, 0, 2)) @ self.text_projection
        last, early = tokens.chunk(2)
        return last[torch.arange(len(text)), masked_text.argmax(dim=-1)], early

    def forward(
        self, image: torch.Tensor, text: torch.Tensor, masked_text: torch.Tensor, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        image_feats, image_tokens = self.visual(image, layer)
        text_feats, text_tokens = self.encode_text(text, masked_text, layer)
        return image_feats, text_feats, plain_noise(text_tokens.float(), image_tokens.float())


@torch.no_grad()
def plain_noise(text_tokens: torch.Tensor, image_tokens: torch.Tensor) -> torch.Tensor:
    """Eq. 1 and 2 of Tan et al., CVPR 2024."""
    text = text_tokens / text_tokens.norm(dim=-1, keepdim=True)
    image = image_tokens / image_tokens.norm(dim=-1, keepdim=True)
    return 1 - torch.bmm(text, image[:, 1:].permute(0, 2, 1)).max(dim=-1)[0]


def plain_sdm(image: torch.Tensor, text: torch.Tensor, pid: torch.Tensor) -> torch.Tensor:
    """Eq. 5 to 7, on one process's pairs."""
    pid = pid.reshape(-1, 1)
    target = (pid == pid.t()).float()
    target = target / target.sum(dim=1, keepdim=True)
    image = image / image.norm(dim=1, keepdim=True)
    text = text / text.norm(dim=1, keepdim=True)
    logits = image @ text.t() / TAU
    total = 0
    for one in (logits, logits.t()):
        p = F.softmax(one, dim=1)
        total = total + (p * (F.log_softmax(one, dim=1) - torch.log(target + EPS))).sum(dim=1).mean()
    return total


def plain_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Adam of the recipe: a group per tensor, a loop over tensors."""
    groups = [{"params": [parameter], "lr": 1e-5, "weight_decay": 4e-5} for parameter in model.parameters()]
    return torch.optim.Adam(groups, lr=1e-5, betas=(0.9, 0.999), eps=1e-3, foreach=False, fused=False)


def plain_loss(model: PlainCLIP, batch: dict[str, torch.Tensor], layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and noise of a batch."""
    image_feats, text_feats, noise = model(batch["image"], batch["text"], batch["masked_text"], layer)
    return plain_sdm(image_feats.float(), text_feats.float(), batch["pid"]), noise


def fetch(loss: torch.Tensor, noise: torch.Tensor) -> tuple[float, list[torch.Tensor]]:
    """What the recipe's loop copies off the device in every step: the loss, and the noise sample by sample."""
    return loss.item(), [row.cpu() for row in noise]
