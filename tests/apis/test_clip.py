"""The short way in."""

import doctest

import torch

from mmreid_text import apis
from mmreid_text.apis import clip


def test_tokenize_gives_int64_rows_of_77():
    ids = apis.tokenize(["a red coat", ""])
    assert (ids.dtype, ids.shape) == (torch.int64, (2, 77))
    assert ids[1, :3].tolist() == [49406, 49407, 0]
    assert apis.tokenize([]).shape == (0, 77)


def test_examples_in_docstrings_hold():
    assert doctest.testmod(clip).failed == 0
