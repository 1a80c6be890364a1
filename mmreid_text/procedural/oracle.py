"""What a perfect reader and seer would reach: ranking by the attributes that captions state and people have."""

import numpy as np

from mmreid_text.procedural.attributes import NUM_ATTRIBUTES, NUM_VALUES

_OFFSETS = np.concatenate([[0], np.cumsum(NUM_VALUES)[:-1]])
_FILL = NUM_ATTRIBUTES + 1
#: Length of an attribute feature: one place per value of every attribute, and two blocks that even out the norms.
WIDTH = int(sum(NUM_VALUES)) + 2 * _FILL


def query_features(mentioned: np.ndarray) -> np.ndarray:
    """Features of what captions state; see :func:`gallery_features`.

    Args:
        mentioned: int (Q, A), stated codes (``Caption.mentioned``), -1 where a caption is silent.

    Returns:
        float32 (Q, WIDTH) of zeros and ones.
    """
    return _one_hot(mentioned, WIDTH - _FILL)


def gallery_features(codes: np.ndarray) -> np.ndarray:
    """Features of people whose inner product with :func:`query_features` counts the attributes stated rightly.

    Ranking by it is the ceiling of a retrieval that reads and sees without error, yet knows no more than the captions
    tell. All features have the norm 4 (places that the other side never fills even it out), so cosines rank the same.

    Args:
        codes: int (G, A), the people's codes, -1 where an attribute does not apply.

    Returns:
        float32 (G, WIDTH) of zeros and ones.
    """
    return _one_hot(codes, WIDTH - 2 * _FILL)


def _one_hot(codes: np.ndarray, fill: int) -> np.ndarray:
    if codes.ndim != 2 or codes.shape[1] != NUM_ATTRIBUTES:
        raise ValueError(f"codes of shape {codes.shape}: expected (n, {NUM_ATTRIBUTES}), one column per attribute")
    features = np.zeros((len(codes), WIDTH), dtype=np.float32)
    rows, columns = np.nonzero(codes >= 0)
    features[rows, _OFFSETS[columns] + codes[rows, columns]] = 1.0
    features[:, fill : fill + NUM_ATTRIBUTES] = codes < 0
    features[:, fill + NUM_ATTRIBUTES] = 1.0  # sixteen ones in all
    return features
