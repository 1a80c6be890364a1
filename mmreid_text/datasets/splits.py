"""Validation protocols: which identities train, which select the checkpoint."""

import numpy as np

from mmreid_text.datasets.caption_rows import SPLITS
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.randomness import uniform

PROTOCOLS = ("val", "paper-val", "test-selected")
HOLD_OUT_SEED = 0
HOLD_OUT_FRACTION = 0.1


def held_out_identities(pid: np.ndarray, fraction: float = HOLD_OUT_FRACTION, seed: int = HOLD_OUT_SEED) -> np.ndarray:
    """Draw identities to hold out: ``round(fraction * C)`` of the C distinct values in ``pid``, at least one.

    The draw ranks a hash of each identity, so it depends on nothing but the identities and ``seed``: neither on the
    order of rows nor on how many captions an identity has.

    Args:
        pid: int64 (n,), any values of 0 and above, gaps and repeats allowed.
        fraction: Share of the identities, in (0, 1).
        seed: Seed of the draw. The default is part of the protocol: change it and results no longer compare.

    Returns:
        int64, the held-out identities in ascending order.

    Raises:
        ValueError: Fewer than two identities, so none would be left for training.
    """
    known = np.unique(pid)
    if len(known) < 2:
        raise ValueError(f"Holding identities out needs at least 2 of them, but the training split has {len(known)}.")
    count = min(max(round(fraction * len(known)), 1), len(known) - 1)
    order = np.argsort(uniform(seed, 0, known, "held_out_identities", 1)[:, 0], kind="stable")
    return np.sort(known[order[:count]])


def protocol_view(table: CaptionTable, split: str, protocol: str, own_val: bool) -> CaptionTable:
    """Rows that ``split`` means under ``protocol``.

    ======================  ====================================  ==============================  ==========
    protocol                train                                 val                             test
    ======================  ====================================  ==============================  ==========
    ``val``, ``own_val``    training split                        validation split                test split
    ``val``, no own one     training split less 10% identities    those 10% of the identities     test split
    ``paper-val``           training split less 10% identities    those 10% of the identities     test split
    ``test-selected``       training split                        **test split**                  test split
    ======================  ====================================  ==============================  ==========

    Raises:
        ValueError: Unknown split or protocol, or the table lacks the rows.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} must be one of {SPLITS}.")
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} must be one of {PROTOCOLS}.")
    if split == "val" and protocol == "test-selected":
        return table.split("test")
    if split == "test" or protocol == "test-selected" or (protocol == "val" and own_val):
        return table.split(split)
    training = table.split("train")
    held_out = np.isin(training.pid, held_out_identities(training.pid))
    return training.select(np.flatnonzero(held_out if split == "val" else ~held_out))
