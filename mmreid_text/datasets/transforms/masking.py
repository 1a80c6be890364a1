"""Drawing of masked captions: which tokens, and what stands in their place."""

import numpy as np

from mmreid_text.datasets.transforms.tokenizer import MASK
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
