"""Why a sentence finds an image: what each word adds to the score, and where in the crop it is seen."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmreid_text.datasets.transforms.text import Tokenize
from mmreid_text.datasets.transforms.tokenizer import clean_text, get_tokenizer
from mmreid_text.gallery.images import ImageLike
from mmreid_text.visualization.similarity_map import similarity_maps

if TYPE_CHECKING:
    from mmreid_text.apis.inferencer import TextReIDInferencer

_CHUNK = re.compile(r"[^\s,.;:!?()\[\]{}\"“”„«»…、。\uff0c]+")


@dataclass(frozen=True)
class Explanation:
    """What a score of a sentence and an image is made of.

    Attributes:
        sentence: As the tokenizer reads it, in lower case.
        score: Cosine similarity of sentence and image, as in a search.
        words: The W words that the model reads; those beyond its longest sentence are left out.
        spans: Their places (start, end) in ``sentence``.
        contributions: float32 (W,), the score less that of the sentence without the word: above 0 where the word
            speaks for the image, below 0 where it speaks against it. A word that stands alone has the whole score.
        maps: float32 (W, rows, columns) in [-1, 1], cosine similarity of word and patch, mean over the word's tokens.
        sentence_map: float32 (rows, columns), that of the whole sentence's feature and each patch; of a model whose
            features have other dimensions than its tokens, the mean of ``maps``.
    """

    sentence: str
    score: float
    words: list[str]
    spans: list[tuple[int, int]]
    contributions: np.ndarray
    maps: np.ndarray
    sentence_map: np.ndarray


def explain(inferencer: "TextReIDInferencer", sentence: str, image: ImageLike, layer: int | None = None) -> Explanation:
    """Explain the score of a sentence and an image.

    Contributions are measured by leaving each word out, so they do not add up to the score. In a map, too, a word
    stands for more than itself: its tokens have read the words before them.

    Args:
        inferencer: The model.
        sentence: Anything that can be searched for.
        image: A path, a file's bytes, a Pillow image or a uint8 (H, W, 3) RGB array.
        layer: Blocks passed before words and patches are compared. None takes the layer at which the model's
            ``token_noise`` or ``token_loss`` compares them, or else the last of each encoder.

    Raises:
        FileNotFoundError, OSError, ValueError: As ``inferencer.preprocess`` and ``inferencer.tokenize`` state; or the
            model has no block ``layer``.

    >>> found = explain(TextReIDInferencer(), 'a woman in a red coat', 'crop.jpg')  # doctest: +SKIP
    >>> dict(zip(found.words, found.contributions.round(3)))  # doctest: +SKIP
    {'a': 0.002, 'woman': 0.031, 'in': 0.001, 'a': 0.0, 'red': 0.094, 'coat': 0.023}
    """
    ids = inferencer.tokenize([sentence])  # (1, N)
    sentence = clean_text(sentence)
    words = _read_words(inferencer, sentence, ids[0].tolist())
    pixels = inferencer.preprocess([image])
    image_feat = inferencer.encode_pixels(pixels)[0]  # (D,)
    text_feats = inferencer.encode_text([sentence])
    score = float(text_feats[0] @ image_feat)
    spans = [span for span, _ in words]
    without = _scores_without(inferencer, sentence, spans, image_feat)
    text_tokens, image_tokens = _tokens(inferencer.model, ids, pixels, layer)
    grid = _grid(inferencer.model.image_encoder, pixels, len(image_tokens) - 1)
    by_token = similarity_maps(text_tokens, image_tokens, grid).cpu().numpy()  # (N, rows, columns)
    maps = np.array([by_token[positions].mean(axis=0) for _, positions in words], dtype=np.float32)
    maps = maps.reshape(-1, *grid)
    sentence_map = maps.mean(axis=0) if len(maps) else np.zeros(grid, dtype=np.float32)
    if text_feats.shape[1] == image_tokens.shape[1]:
        feature = torch.from_numpy(text_feats).to(image_tokens.device)
        sentence_map = similarity_maps(feature, image_tokens, grid)[0].cpu().numpy()
    return Explanation(
        sentence=sentence,
        score=score,
        words=[sentence[start:end] for start, end in spans],
        spans=spans,
        contributions=np.float32(score) - without,
        maps=maps,
        sentence_map=sentence_map,
    )


def split_words(sentence: str) -> list[tuple[int, int]]:
    """Places (start, end) of the words of a sentence, marks around them left out and marks within them kept.

    >>> [sentence[a:b] for sentence in ["a t-shirt,black (worn)!"] for a, b in split_words(sentence)]
    ['a', 't-shirt', 'black', 'worn']
    """
    spans = []
    for chunk in _CHUNK.finditer(sentence):
        start, end = chunk.span()
        while start < end and unicodedata.category(sentence[start])[0] in "PSC":
            start += 1
        while start < end and unicodedata.category(sentence[end - 1])[0] in "PSC":
            end -= 1
        if start < end:
            spans.append((start, end))
    return spans


def _scores_without(
    inferencer: "TextReIDInferencer", sentence: str, spans: Sequence[tuple[int, int]], image_feat: np.ndarray
) -> np.ndarray:
    """Score float32 (W,) of the sentence without each of its words; 0 where nothing remains."""
    others = [f"{sentence[:start]} {sentence[end:]}".strip() for start, end in spans]
    scores = np.zeros(len(others), dtype=np.float32)
    some = [i for i, other in enumerate(others) if other]
    scores[some] = inferencer.encode_text([others[i] for i in some]) @ image_feat
    return scores


def _read_words(
    inferencer: "TextReIDInferencer", sentence: str, ids: Sequence[int]
) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Words that have tokens among ``ids``: place in the sentence, and positions of the tokens."""
    tokens = _token_spans(inferencer, sentence, ids)  # (N, 2)
    found = []
    for start, end in split_words(sentence):
        positions = np.flatnonzero((tokens[:, 0] < end) & (tokens[:, 1] > start))
        if len(positions):
            found.append(((start, end), positions))
    return found


def _token_spans(inferencer: "TextReIDInferencer", sentence: str, ids: Sequence[int]) -> np.ndarray:
    """Places int64 (N, 2) of the tokens in the sentence; (0, 0) for those that stand for nothing in it."""
    spans = np.zeros((len(ids), 2), dtype=np.int64)
    steps = (step for step in inferencer.pipeline if isinstance(step, Tokenize))
    tokenizer = next((step.tokenizer for step in steps), None)
    if tokenizer is None:  # CLIP's
        known = get_tokenizer().spans(sentence, len(ids))
        spans[1 : 1 + len(known)] = np.array(known, dtype=np.int64).reshape(-1, 2)  # SOT stands at 0
        return spans
    at = 0
    for i, piece in enumerate(tokenizer.decode(ids)):
        rest = piece.removeprefix("##")
        found = re.compile(re.escape(rest) if rest != piece else rf"(?<!\w){re.escape(piece)}").search(sentence, at)
        if found:
            spans[i] = found.span()
            at = found.end()
    return spans


def _grid(encoder: Any, pixels: torch.Tensor, count: int) -> tuple[int, int]:
    """Rows and columns of ``count`` patches: the encoder's own, or square patches of the pixels (1, 3, H, W)."""
    known = getattr(encoder, "grid", None)
    if known is not None:
        return int(known[0]), int(known[1])
    rows = round((count * pixels.shape[-2] / pixels.shape[-1]) ** 0.5)
    return rows, count // rows


@torch.no_grad()
def _tokens(
    model: Any, ids: torch.Tensor, pixels: torch.Tensor, layer: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Text tokens (N, D) and image tokens (1 + M, D) in the joint space."""
    readers = (getattr(model, "token_noise", None), getattr(model, "token_loss", None))
    layer = next((reader.layer for reader in readers if reader is not None and layer is None), layer)
    if layer is not None:
        image_tokens, text_tokens = model.token_features(pixels, ids, layer)
        return text_tokens[0], image_tokens[0]
    text_tokens, image_tokens = (
        encoder.project(encoder.hidden_states(inputs, [encoder.depth])[0])[0]
        for encoder, inputs in ((model.text_encoder, ids), (model.image_encoder, pixels))
    )
    return text_tokens, image_tokens
