"""The prototype-guided unit: features of parts that images and captions have in common."""

import torch
from torch import nn

from mmreid_text.models.backbones.attention import attend
from mmreid_text.registry import MODELS


class _Layer(nn.Module):
    """Queries look at tokens, then each at itself; one norm for queries and tokens, as in LGUR."""

    def __init__(self, width: int, heads: int, head_dim: int, mlp_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, heads * head_dim, bias=False)
        self.key_value = nn.Linear(width, 2 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.ReLU(), nn.Linear(mlp_width, width))

    def forward(self, x: torch.Tensor, tokens: torch.Tensor, visible: torch.Tensor | None) -> torch.Tensor:
        key, value = self.key_value(self.norm1(tokens)).chunk(2, dim=-1)
        x = x + self.out(attend(self.query(self.norm1(x)), key, value, self.heads, visible=visible))
        return x + self.mlp(self.norm2(x))


@MODELS.register_module()
class PGU(nn.Module):
    """Prototype-guided unit (Shao et al., LGUR, MM 2022), which UniPT fine-tunes with (ICCV 2023, section 4.2).

    Learnt queries, the same ones for both modalities, gather parts from the tokens of an image or of a caption in a
    transformer decoder without attention among queries; each has a linear layer of its own behind it.

    Args:
        width: Channels D of the tokens.
        queries: Number Q of queries.
        depth: Layers.
        heads: Attention heads.
        head_dim: Channels of each head; LGUR's are wide.
        mlp_width: Hidden channels of the layers' MLPs.
        embed_dim: Channels E of a part.

    Raises:
        ValueError: A size is below 1.

    Config::

        model = dict(type='UniPTRetriever', pgu=dict(type='PGU', queries=6))
    """

    def __init__(
        self,
        width: int,
        queries: int = 6,
        depth: int = 2,
        heads: int = 6,
        head_dim: int = 512,
        mlp_width: int = 512,
        embed_dim: int = 512,
    ) -> None:
        super().__init__()
        sizes = dict(width=width, queries=queries, depth=depth, heads=heads, head_dim=head_dim, embed_dim=embed_dim)
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"PGU: {name} must be at least 1, got {size}.")
        self.num_queries = queries
        self.embed_dim = embed_dim
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.layers = nn.ModuleList(_Layer(width, heads, head_dim, mlp_width) for _ in range(depth))
        self.projection = nn.Parameter(torch.empty(queries, embed_dim, width))
        nn.init.normal_(self.projection, std=(2 / embed_dim) ** 0.5)  # Kaiming's, by the fan-out of each

    def forward(self, tokens: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """Parts float (B, Q, E) of tokens (B, N, D), of which ``visible`` bool (B, N) count; default all."""
        x = self.queries.expand(len(tokens), -1, -1)
        for layer in self.layers:
            x = layer(x, tokens, visible)
        return torch.einsum("bqd,qed->bqe", x, self.projection)
