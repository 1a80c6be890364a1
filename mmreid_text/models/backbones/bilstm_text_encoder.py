"""The text encoder of CMMT: a bidirectional LSTM over words."""

from collections.abc import Iterable, Sequence

import torch
from mmengine.model import BaseModule
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmreid_text.models.backbones.resnet_encoder import running_norm
from mmreid_text.registry import MODELS


@MODELS.register_module()
class BiLSTMTextEncoder(BaseModule):
    """Word embedding, bidirectional LSTM, linear layer per word, maximum over words, BatchNorm: as CMMT (ICCV 2021).

    It counts as one block: ``depth`` is 1, its hidden states are the LSTM's outputs. Padding, id 0, is not computed.
    For BatchNorm over several processes see :class:`~mmreid_text.models.backbones.resnet_encoder.ResNetEncoder`.

    Args:
        vocab_size: Ids, 0 included; the tokenizer's ``vocab_size``.
        embed_dim: Channels D of the joint space.
        word_dim: Channels of a word's embedding.
        hidden: Units of the LSTM, for each direction.
        layers: Layers of the LSTM.

    Config::

        text_encoder=dict(type='BiLSTMTextEncoder', vocab_size=4096, embed_dim=512)
    """

    depth = 1

    def __init__(
        self, vocab_size: int, embed_dim: int = 512, word_dim: int = 768, hidden: int = 512, layers: int = 2
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, word_dim, padding_idx=0)
        self.lstm = nn.LSTM(word_dim, hidden, layers, bias=False, batch_first=True, bidirectional=True)
        self.projection = nn.Linear(2 * hidden, embed_dim)
        self.norm = nn.BatchNorm1d(embed_dim)
        self.embed_dim = embed_dim

    def hidden_states(
        self, text: torch.Tensor, layers: Iterable[int], lengths: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Outputs of the LSTM (B, N, W), zero behind a caption's last word, for each of ``layers``.

        Args:
            text: int64 (B, N), padded with 0, at least one word in each.
            layers: Each must be 1.
            lengths: Words of each caption. Where they are not given, the host waits for a GPU to say.

        Raises:
            ValueError: Another layer is asked for.
        """
        layers = list(layers)
        if any(layer != self.depth for layer in layers):
            raise ValueError(f"Layers {layers} asked of a BiLSTMTextEncoder, which is one block: give 1.")
        counts = text.count_nonzero(dim=1).tolist() if lengths is None else list(lengths)
        packed = pack_padded_sequence(self.words(text), torch.tensor(counts), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=text.shape[1])
        return [states for _ in layers]

    def encode(
        self, text: torch.Tensor, layers: Iterable[int] = (), lengths: Sequence[int] | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features (B, D), before L2 normalisation, and the hidden states of the same pass for each of ``layers``."""
        states, *asked = self.hidden_states(text, [self.depth, *layers], lengths)
        words = self.projection(states).masked_fill((text == 0)[:, :, None], -torch.inf)
        return self.norm(words.amax(dim=1)), asked

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Bring hidden states (..., W) to the joint space (..., D), by BatchNorm's running statistics."""
        return running_norm(self.norm, self.projection(hidden))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Text features (B, D), before L2 normalisation, of int64 ids (B, N)."""
        return self.encode(text)[0]
