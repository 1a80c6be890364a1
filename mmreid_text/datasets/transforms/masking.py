"""Drawing of masked captions: which tokens, and what stands in their place."""

import numpy as np

from mmreid_text.datasets.transforms.tokenizer import MASK
from mmreid_text.datasets.transforms.wordpiece import WordPieceTokenizer
from mmreid_text.randomness import uniform

KEEP_FROM = 0.9  # of the drawn tokens, 80% become the mask, 10% a random id, 10% stay
RANDOM_FROM = 0.8


def draw_masked_text(
    text: np.ndarray,
    probability: np.ndarray,
    caption_id: np.ndarray,
    seed: int,
    epoch: int,
    force_one: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask tokens as IRRA and NAM do (BERT's 80/10/10 rule), whole batch at once.

    The draws depend on (seed, epoch, caption_id, position) alone, so they are the same on any rank and after a resume.

    Args:
        text: int64 (B, N), CLIP ids.
        probability: float (B, N) in [0, 1]; 0 where a token must stay (SOT, EOT, padding).
        caption_id: int64 (B,).
        seed: Seed of the experiment.
        epoch: Epoch, from 0.
        force_one: Mask position 1 of a caption in which no token was drawn, as the published code does; an empty
            caption stays as it is either way.

    Returns:
        The masked text, and the labels of masked language modelling: the id of each token that was drawn, those that
        stay included, and 0 elsewhere. Both int64 (B, N), new memory. A drawn ``!`` has the id 0 and so no label.
    """
    u = uniform(seed, epoch, caption_id, "masking", text.shape[1])  # (B, N)
    drawn = u < probability
    if force_one:
        drawn[:, 1] |= ~drawn.any(axis=1) & (probability[:, 1:].max(axis=1, initial=0) > 0)
    rows, columns = np.nonzero(drawn)
    # Given that it fell below the probability, u / probability is uniform again: one draw serves for all three choices.
    # Forced tokens have no such draw and take the mask.
    chance = probability[rows, columns]
    kind = np.where(u[rows, columns] < chance, u[rows, columns] / np.where(chance > 0, chance, 1), 0.0)
    random_id = 1 + ((kind - RANDOM_FROM) / (KEEP_FROM - RANDOM_FROM) * (MASK - 1)).astype(np.int64)  # 1..49404
    new = np.where(kind < RANDOM_FROM, MASK, np.clip(random_id, 1, MASK - 1))
    masked, labels, old = text.copy(), np.zeros_like(text), text[rows, columns]
    masked[rows, columns] = np.where(kind < KEEP_FROM, new, old)
    labels[rows, columns] = old
    return masked, labels


def draw_masked_words(
    text: np.ndarray,
    tokenizer: WordPieceTokenizer,
    p: float,
    caption_id: np.ndarray,
    seed: int,
    epoch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask whole words of BERT's pieces, each word with probability ``p``; of their pieces 80/10/10, piece by piece.

    Special pieces, unknown words among them, stay, and none of them is put in another's place. The draws depend on
    (seed, epoch, caption_id, position) alone.

    Args:
        text: int64 (B, N), ids of pieces, 0 behind the last.
        tokenizer: What made them.
        p: Probability in [0, 1].
        caption_id: int64 (B,).
        seed: Seed of the experiment.
        epoch: Epoch, from 0.

    Returns:
        The masked text, and the labels of masked language modelling: the id of each piece that was drawn, those that
        stay included, and 0 elsewhere. Both int64 (B, N), new memory.
    """
    special = np.zeros(tokenizer.vocab_size, dtype=bool)
    special[tokenizer.special_ids] = True
    real = ~special[text]  # (B, N)
    begins = real & ~tokenizer.continues[text]
    first = np.maximum.accumulate(np.where(begins, np.arange(text.shape[1]), 0), axis=1)  # of each piece's word
    u = uniform(seed, epoch, caption_id, "whole words", text.shape[1])
    rows, columns = np.nonzero(real & (np.take_along_axis(u, first, axis=1) < p))
    kind = uniform(seed, epoch, caption_id, "masked pieces", text.shape[1])[rows, columns]
    ordinary = np.flatnonzero(~special)
    place = np.clip((kind - RANDOM_FROM) / (KEEP_FROM - RANDOM_FROM), 0, 1) * len(ordinary)
    new = np.where(kind < RANDOM_FROM, tokenizer.mask_id, ordinary[np.minimum(place.astype(int), len(ordinary) - 1)])
    masked, labels, old = text.copy(), np.zeros_like(text), text[rows, columns]
    masked[rows, columns] = np.where(kind < KEEP_FROM, new, old)
    labels[rows, columns] = old
    return masked, labels
