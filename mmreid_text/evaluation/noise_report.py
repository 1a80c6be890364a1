"""What noise-aware masking does to captions: how well noise finds wrong words, and which kinds of words it masks."""

import re
from functools import cache

import numpy as np
import torch

from mmreid_text.datasets import ConcatDataset, TextReIDDataset
from mmreid_text.datasets.transforms.tokenizer import EOT, VOCAB, get_tokenizer
from mmreid_text.engine.noise_table import SCALE
from mmreid_text.evaluation.word_classes import CLASSES, word_class


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Args:
        scores: Numbers (n,), high where a positive is expected, such as token noise.
        labels: Bool (n,), such as whether the token belongs to a wrong word.

    Returns:
        A value in [0, 1]; 0.5 is chance.

    Raises:
        ValueError: Only one class is there, the shapes differ or a score is not a number.
    """
    scores, labels = np.asarray(scores), np.asarray(labels, dtype=bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(f"scores and labels must be (n,) both, got {scores.shape} and {labels.shape}")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are not a number")
    positive = int(labels.sum())
    negative = len(labels) - positive
    if not positive or not negative:
        raise ValueError(f"the ROC curve needs both classes, got {positive} positives and {negative} negatives")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(counts) - (counts - 1) / 2  # equal scores share the mean of their ranks, from 1
    above = mid_rank[inverse[labels]].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def masking_by_word_class(text: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Masking by kind of word: nouns, colours, function words, punctuation and others.

    A word that BPE splits gives its class to all its tokens.

    Args:
        text: CLIP ids int64 (B, N) with SOT and EOT, 0-padded.
        probability: Masking probability float (B, N) in [0, 1] of each token.

    Returns:
        Per class, in percent: ``<class>/tokens``, its share of the tokens between SOT and EOT;
        ``<class>/probability``, their mean masking probability (left out if the class is empty); ``<class>/masked``,
        its share of the tokens expected to be masked. ``all/...`` is the whole.

    Raises:
        ValueError: Shapes differ, or there is no token between SOT and EOT.
    """
    text, probability = np.asarray(text), np.asarray(probability, dtype=np.float64)
    if text.shape != probability.shape or text.ndim != 2:
        raise ValueError(f"text and probability must be (B, N) both, got {text.shape} and {probability.shape}")
    classes = token_classes(text)
    real = classes >= 0
    if not real.any():
        raise ValueError(f"none of the {len(text)} captions has a token between SOT and EOT")
    tokens = np.bincount(classes[real], minlength=len(CLASSES))
    masked = np.bincount(classes[real], weights=probability[real], minlength=len(CLASSES))
    report = {}
    for name, n, m in zip((*CLASSES, "all"), (*tokens, tokens.sum()), (*masked, masked.sum())):
        report[f"{name}/tokens"] = 100.0 * float(n / tokens.sum())
        if n:
            report[f"{name}/probability"] = 100.0 * float(m / n)
        report[f"{name}/masked"] = 100.0 * float(m / masked.sum()) if masked.sum() else 0.0
    return report


def report_noise_table(
    dataset: TextReIDDataset | ConcatDataset, noise: np.ndarray, p: float, max_captions: int = 100_000
) -> dict[str, float]:
    """:func:`masking_by_word_class` of what a saved noise table will mask next.

    Args:
        dataset: The training set that the table belongs to.
        noise: uint8 (num_captions, N) over r in [0, 2], see :func:`~mmreid_text.engine.noise_table.load_noise_table`.
        p: Average share of masked tokens.
        max_captions: Captions looked at, evenly spaced over the table.

    Returns:
        Flat ``<class>/<figure>`` keys, percent.
    """
    from mmreid_text.models.token_noise import masking_probability  # late: takes seconds, and few who come here need it

    rows = np.linspace(0, len(noise) - 1, min(max_captions, len(noise))).astype(np.int64)
    text = get_tokenizer()([dataset.caption(int(row)) for row in rows], noise.shape[1])
    r = torch.from_numpy(noise[rows]) / SCALE
    return masking_by_word_class(text, masking_probability(r, torch.from_numpy(text), p).numpy())


def token_classes(text: np.ndarray) -> np.ndarray:
    """Index into :data:`~mmreid_text.evaluation.word_classes.CLASSES` of each token's word.

    Args:
        text: CLIP ids int64 (B, N), 0-padded.

    Returns:
        int8 (B, N), -1 at SOT, EOT and padding.
    """
    position = np.arange(text.shape[1])
    real = (position > 0) & (position < (text == EOT).argmax(axis=1)[:, None])
    ids = text[real]  # all captions' tokens in a row
    class_of, ends_word = _vocabulary()
    row = np.nonzero(real)[0]
    ends = ends_word[ids]
    ends[np.flatnonzero(np.diff(row))] = True  # truncation may cut a caption's last word
    stops = np.flatnonzero(ends) + 1
    if len(ids) and (not len(stops) or stops[-1] < len(ids)):
        stops = np.append(stops, len(ids))
    starts = np.concatenate([[0], stops[:-1]]).astype(np.int64)
    classes = class_of[ids]
    known: dict[bytes, int] = {}
    for i in np.flatnonzero(stops - starts > 1):
        pieces = ids[starts[i] : stops[i]]
        key = pieces.tobytes()
        if key not in known:
            known[key] = CLASSES.index(word_class("".join(get_tokenizer().decode(pieces))))
        classes[starts[i] : stops[i]] = known[key]
    out = np.full(text.shape, -1, dtype=np.int8)
    out[real] = classes
    return out


def read_caption(text: np.ndarray) -> str:
    """The caption that CLIP ids (N,) stand for, in lower case, cut where the ids were cut.

    >>> read_caption(get_tokenizer()(["A man, in red."])[0])
    'a man, in red.'
    """
    ids = text[1 : int((text == EOT).argmax())]
    ends_word = _vocabulary()[1]
    pieces = zip(get_tokenizer().decode(ids), ends_word[ids])
    words = "".join(piece + " " * bool(ends) for piece, ends in pieces).strip()
    words = re.sub(r"\b ([-/]) \b", r"\1", words)
    return re.sub(r" ([,.;:!?)]|'\w+\b)", r"\1", words).replace("( ", "(")


@cache
def _vocabulary() -> tuple[np.ndarray, np.ndarray]:
    """For every id, read as a word of its own: its class int8 (VOCAB,), and whether it ends a word, bool (VOCAB,)."""
    tokenizer = get_tokenizer()
    classes = [CLASSES.index(word_class(word)) for word in tokenizer.decode(range(VOCAB))]
    ends = [token.endswith("</w>") or token.startswith("<|") for token in tokenizer.vocabulary]
    return np.array(classes, dtype=np.int8), np.array(ends)
