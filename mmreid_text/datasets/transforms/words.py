"""A tokenizer of whole words, for text encoders that are trained from nothing."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from mmreid_text.atomic_write import write_text
from mmreid_text.registry import TRANSFORMS

PAD, UNKNOWN, END, MASK = range(4)
FIRST_WORD = 4
_WORDS = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


@TRANSFORMS.register_module()
class WordTokenizer:
    """Turns sentences into ids of words: the words of a caption without marks, an end, zeros; as CMMT (ICCV 2021) does.

    Ids 0 to 3 are padding, unknown words, the end and the mask; those of words follow in the order of the file. The
    file is opened when the first sentence is read, so that configs build before it is made.

    Args:
        vocab: Text file with a word per line, the frequent ones first; ``tools/build_vocab.py`` makes it.
        vocab_size: Ids in all. Of the file only the first words that fit are known.

    Raises:
        ValueError: ``vocab_size`` leaves no room for a word.

    Config::

        dict(type='Tokenize', max_length=100, tokenizer=dict(
            type='WordTokenizer', vocab='data/CUHK-PEDES/words.txt', vocab_size=4096))
    """

    mask_id = MASK

    def __init__(self, vocab: str | os.PathLike[str], vocab_size: int = 4096) -> None:
        if vocab_size <= FIRST_WORD:
            raise ValueError(f"WordTokenizer: vocab_size={vocab_size} leaves no room for words: give at least 5.")
        self.vocab = os.fspath(vocab)
        self.vocab_size = vocab_size

    def __call__(self, sentences: Iterable[str], max_length: int = 100) -> np.ndarray:
        """Tokenize sentences.

        Args:
            sentences: B captions as written.
            max_length: Ids per row with the end, at least 2. Longer captions lose their last words and keep the end.

        Returns:
            int64 (B, max_length).

        Raises:
            FileNotFoundError: There is no vocabulary yet; names the command that makes it.
            ValueError: It is damaged.
        """
        if max_length < 2:
            raise ValueError(f"max_length={max_length} leaves no room for a word and the end: give at least 2.")
        if isinstance(sentences, str):
            raise TypeError(f"Expected a list of sentences, got one string: pass [{sentences[:30]!r}].")
        known, size = _numbers(self.vocab), self.vocab_size
        rows = []
        for sentence in sentences:
            found = (known.get(word, UNKNOWN) for word in words_of(sentence)[: max_length - 1])
            rows.append([*(number if number < size else UNKNOWN for number in found), END])
        ids = np.zeros((len(rows), max_length), dtype=np.int64)
        for row, numbers in zip(ids, rows):
            row[: len(numbers)] = numbers
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The word of each id; special ones in brackets."""
        words = ["[pad]", "[unknown]", "[end]", "[mask]", *_numbers(self.vocab)]
        return [words[int(number)] for number in ids]

    def __repr__(self) -> str:
        return f"WordTokenizer(vocab={self.vocab!r}, vocab_size={self.vocab_size})"


def words_of(sentence: str) -> list[str]:
    """Words in lower case, without marks.

    >>> words_of("A man's T-shirt, (red).")
    ['a', "man's", 't-shirt', 'red']
    """
    return _WORDS.findall(sentence.lower().replace("\u2019", "'"))


def write_words(path: str | os.PathLike[str], captions: Iterable[str], size: int = 4096) -> int:
    """Write the words of captions to a file that :class:`WordTokenizer` reads, the frequent ones first.

    Equal captions give equal files, whatever their order.

    Args:
        path: The file.
        captions: Sentences as written.
        size: The tokenizer's ``vocab_size``; four of them are no words.

    Returns:
        The number of words.
    """
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(words_of(caption))
    words = sorted(counts, key=lambda word: (-counts[word], word))[: size - FIRST_WORD]
    write_text(Path(path), "\n".join(words) + "\n")
    return len(words)


@lru_cache(maxsize=8)
def _numbers(vocab: str) -> dict[str, int]:
    path = Path(vocab).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no vocabulary {path} yet: make it from the training captions with "
            "python tools/build_vocab.py <the config>."
        )
    words = path.read_text(encoding="utf-8").splitlines()
    numbers = {word: number for number, word in enumerate(words, FIRST_WORD)}
    if len(numbers) < len(words) or not all(words_of(word) == [word] for word in words):
        wrong = next(i for i, word in enumerate(words) if words_of(word) != [word] or word in words[:i])
        raise ValueError(f"{path}, line {wrong + 1}: {words[wrong]!r} is no word, or stands there twice.")
    return numbers
