"""Transforms of captions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmreid_text.datasets.transforms.tokenizer import get_tokenizer, pad_tokens
from mmreid_text.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Tokenize(BaseTransform):
    """Turn a sample's caption, or all its captions, into token ids.

    **Required keys:** ``caption`` (one string) or ``captions`` (a list of n strings).

    **Optional key:** ``token_ids``, a list of (caption, its ids between SOT and EOT) as
    :class:`~mmreid_text.datasets.text_reid_dataset.TextReIDDataset` reads them from beside its table. They are taken
    where the captions are still the same, so a transform may change captions on the way.

    **Added keys:** ``text``, int64 (max_length,) for ``caption`` and int64 (n, max_length) for ``captions``. CLIP's are
    SOT 49406, the tokens, EOT 49407, zeros; a longer caption is cut and keeps EOT.

    Args:
        max_length: Ids per caption, the text encoder's ``context_length`` at most.
        tokenizer: Config of another tokenizer than CLIP's, a transform that maps (sentences, max_length) to int64
            (B, max_length), in which 0 stands for padding and nothing else, and that has the numbers ``mask_id`` and
            ``vocab_size``. ``token_ids``, which are CLIP's, are then passed over.

    Raises:
        KeyError: The sample has neither key.

    Config::

        dict(type='Tokenize', max_length=77)
    """

    def __init__(self, max_length: int = 77, tokenizer: Mapping[str, Any] | None = None) -> None:
        if max_length < 2:
            raise ValueError(f"Tokenize(max_length={max_length}) leaves no room for SOT and EOT: give at least 2.")
        self.max_length = max_length
        self.tokenizer = None if tokenizer is None else TRANSFORMS.build(tokenizer)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if "captions" in results:
            results["text"] = self._ids(results["captions"], results)
        elif "caption" in results:
            results["text"] = self._ids([results["caption"]], results)[0]
        else:
            raise KeyError(f"Tokenize needs 'caption' or 'captions'; the sample has {sorted(results)}.")
        return results

    def _ids(self, captions: list[str], results: dict[str, Any]) -> np.ndarray:
        if self.tokenizer is not None:
            return self.tokenizer(captions, self.max_length)
        known = results.get("token_ids", ())
        if captions == [caption for caption, _ in known]:
            return pad_tokens([ids for _, ids in known], self.max_length)
        return get_tokenizer()(captions, self.max_length)

    def __repr__(self) -> str:
        other = "" if self.tokenizer is None else f", tokenizer={self.tokenizer!r}"
        return f"{type(self).__name__}(max_length={self.max_length}{other})"
