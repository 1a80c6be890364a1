"""Implicit relation reasoning: masked words read from the image."""

import torch
from torch import nn

from mmreid_text.datasets.transforms.tokenizer import VOCAB
from mmreid_text.models.backbones.hidden_states import run_block
from mmreid_text.models.backbones.quick_gelu import QuickGELU, quick_gelu_mlp
from mmreid_text.registry import MODELS


class _MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return quick_gelu_mlp(x, self.c_fc, self.c_proj)


class _Block(nn.Module):
    """A block of CLIP over the whole sequence: tokens (B, N, D) of tokens (B, N, D), padding included."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = _MLP(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class _Transformer(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, with_cp: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.with_cp = with_cp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.resblocks:
            x = run_block(block, self.with_cp, x)
        return x


class MaskedLanguageHead(nn.Module):
    """Scores of every word: ``fc(ln(QuickGELU(dense(x))))``.

    Args:
        width: Channels D of the tokens.
        vocab: Number V of words.
    """

    def __init__(self, width: int, vocab: int = VOCAB) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.gelu = QuickGELU()
        self.ln = nn.LayerNorm(width)
        self.fc = nn.Linear(width, vocab)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (..., V) of tokens (..., D)."""
        return self.fc(self.ln(self.gelu(self.dense(x))))


@MODELS.register_module()
class CrossModalRelation(nn.Module):
    """Implicit relation reasoning of IRRA (Jiang and Ye, CVPR 2023, section 3.2).

    The words of a caption look at the tokens of its image in one cross-attention, which has no residual around it, then
    at each other in blocks like CLIP's without any mask. Padding takes part as the other words do, so what stands
    beyond EOT matters, and so does the caption's padded length. ``mlm_head`` turns words into logits.

    Weights start as published: normal with deviation D^-0.5 for the input projections of attentions, (2 D)^-0.5 for the
    first layers of MLPs and head, and D^-0.5 (2 depth)^-0.5 for what ends a residual branch, cross-attention and head.

    Args:
        width: Channels D of the joint space.
        depth: Number of blocks after the cross-attention.
        heads: Attention heads; None takes one per 64 channels.
        with_cp: Whether training keeps only the blocks' inputs and computes the rest again in the backward pass.
        vocab: Number V of words; CLIP's unless stated.

    Raises:
        ValueError: Width and heads do not divide.

    Config::

        model = dict(type='IRRA', relation=dict(type='CrossModalRelation', depth=4))
    """

    layout: torch.Tensor

    def __init__(
        self, width: int, depth: int = 4, heads: int | None = None, with_cp: bool = False, vocab: int = VOCAB
    ) -> None:
        super().__init__()
        self.heads = max(width // 64, 1) if heads is None else heads
        if depth < 1 or self.heads < 1 or width % self.heads:
            raise ValueError(
                f"CrossModalRelation needs depth >= 1 and heads that divide width={width}, "
                f"got depth={depth} and heads={self.heads}."
            )
        self.cross_attn = nn.MultiheadAttention(width, self.heads, batch_first=True)
        self.cross_modal_transformer = _Transformer(width, depth, self.heads, with_cp)
        self.ln_pre_t = nn.LayerNorm(width)
        self.ln_pre_i = nn.LayerNorm(width)
        self.ln_post = nn.LayerNorm(width)
        self.mlm_head = MaskedLanguageHead(width, vocab)
        # What the shapes of the weights do not tell, kept in checkpoints: heads.
        self.register_buffer("layout", torch.tensor([self.heads]))
        # Here and not in an init_weights, which mmengine would call once more when training starts.
        self._initialise(width, depth)

    def _initialise(self, width: int, depth: int) -> None:
        attention, hidden = width**-0.5, (2 * width) ** -0.5
        closing = attention * (2 * depth) ** -0.5
        blocks = [m for m in self.modules() if isinstance(m, _Block)]
        for attn in [self.cross_attn, *(block.attn for block in blocks)]:
            nn.init.normal_(attn.in_proj_weight, std=attention)
            nn.init.normal_(attn.out_proj.weight, std=closing)
        for block in blocks:
            nn.init.normal_(block.mlp.c_fc.weight, std=hidden)
            nn.init.normal_(block.mlp.c_proj.weight, std=closing)
        nn.init.normal_(self.mlm_head.dense.weight, std=hidden)
        nn.init.normal_(self.mlm_head.fc.weight, std=closing)

    def forward(self, text_tokens: torch.Tensor, image_tokens: torch.Tensor) -> torch.Tensor:
        """Words after they met the image, float (B, N, D), which ``mlm_head`` reads.

        Args:
            text_tokens: float (B, N, D) in the joint space, padding included.
            image_tokens: float (B, 1 + M, D) in the joint space, [CLS] included.
        """
        image = self.ln_pre_i(image_tokens)
        x, _ = self.cross_attn(self.ln_pre_t(text_tokens), image, image, need_weights=False)
        return self.ln_post(self.cross_modal_transformer(x))
