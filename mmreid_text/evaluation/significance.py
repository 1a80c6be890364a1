"""How sure a figure, or the difference of two, is: identities resampled, whole and with their signs flipped.

Captions of one identity are not independent, for they share their positives and much of their words. So identities
are drawn, each with all its captions (Efron and Tibshirani, 1993, chapter 8), never captions.

**Interval.** Percentiles 2.5 and 97.5 of the figure over :data:`RESAMPLES` draws of as many identities as there are,
with replacement. It covers the figure that the *same trained models* would reach on other people of the same kind. It
says nothing of what another training seed would give: that is the standard deviation over seeds.

**Paired test.** Two models rank the same captions, so the differences per caption (averaged over the training seeds
that both have) are what is tested. Were the models equally good, an identity's sum of differences would be as likely
positive as negative: p is the share of :data:`FLIPS` random choices of signs, one sign per identity, whose difference
is at least as far from 0, the observed one counted in (Phipson and Smyth, 2010). Again it is about people, given the
trained models: a small p does not say that the better training wins with other seeds. p-values are not corrected for
the number of comparisons.

Everything is linear in the sums of the identities. So one matrix product per data set serves all models and all of
their differences, and models are compared on the same draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmreid_text.randomness import uniform

RESAMPLES = 2000
FLIPS = 9999
LEVEL = 0.95
_CELLS = 2**22  # of random numbers drawn at a time


@dataclass(frozen=True)
class Resampled:
    """Means over the queries of a data set, of U evaluations of M measures each.

    Attributes:
        mean: float64 (U, M).
        bootstrap: float64 (U, B, M), over B draws of identities.
        flipped: float64 (U, P, M), with the signs of identities flipped in P ways. A difference of two of them is the
            flipped difference; by itself it means nothing.
    """

    mean: np.ndarray
    bootstrap: np.ndarray
    flipped: np.ndarray


def resample(values: np.ndarray, identity: np.ndarray, stream: str) -> Resampled:
    """Resample the identities of a data set.

    Args:
        values: float64 (U, Q, M), what each query scored in each evaluation.
        identity: int64 (Q,), the queries' identities.
        stream: Name of the data set; draws are a function of it and of the number of identities.
    """
    num_evaluations, num_queries, num_measures = values.shape
    order = np.argsort(identity, kind="stable")
    first = np.flatnonzero(np.diff(identity[order], prepend=identity[order[0]] - 1))
    queries = np.diff(first, append=num_queries).astype(np.float64)  # (C,)
    sums = np.add.reduceat(values[:, order], first, axis=1)  # (U, C, M)
    flat = sums.transpose(1, 0, 2).reshape(len(first), -1)  # (C, U * M)
    bootstrap = np.concatenate(
        [(counts @ flat) / (counts @ queries)[:, None] for counts in _draws(len(first), stream)]
    )  # (B, U * M)
    flipped = np.concatenate([signs @ flat / num_queries for signs in _signs(len(first), stream)])
    shape = (-1, num_evaluations, num_measures)
    return Resampled(
        mean=sums.sum(axis=1) / num_queries,
        bootstrap=bootstrap.reshape(shape).swapaxes(0, 1),
        flipped=flipped.reshape(shape).swapaxes(0, 1),
    )


def interval(bootstrap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends (M,) of the central 95% of figures (B, M)."""
    low, high = np.quantile(bootstrap, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def sign_flip_p(difference: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """Two-sided p-values (M,) of differences (M,) among those (P, M) with signs flipped; at least 1 / (P + 1)."""
    # What is equal but for the order of its sums counts as equal.
    reached = np.abs(flipped) >= np.abs(difference) - 1e-9
    return (1 + reached.sum(axis=0)) / (1 + len(flipped))


def _draws(num_identities: int, stream: str) -> Iterator[np.ndarray]:
    """How often each identity is drawn: float64 (b, C), in parts that make up ``RESAMPLES`` rows."""
    for rows in _row_parts(RESAMPLES, num_identities):
        chosen = (uniform(0, 0, rows, f"bootstrap {stream}", num_identities) * num_identities).astype(np.int64)
        cells = chosen + num_identities * np.arange(len(rows))[:, None]
        counts = np.bincount(cells.ravel(), minlength=len(rows) * num_identities)
        yield counts.reshape(len(rows), num_identities).astype(np.float64)


def _signs(num_identities: int, stream: str) -> Iterator[np.ndarray]:
    """-1 or 1 for each identity: float64 (p, C), in parts that make up ``FLIPS`` rows."""
    for rows in _row_parts(FLIPS, num_identities):
        yield np.where(uniform(0, 0, rows, f"sign flips {stream}", num_identities) < 0.5, -1.0, 1.0)


def _row_parts(count: int, width: int) -> list[np.ndarray]:
    return np.array_split(np.arange(count), -(-count * width // _CELLS))
