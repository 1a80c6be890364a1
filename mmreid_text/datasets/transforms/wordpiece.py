"""BERT's word-piece tokenizer, on the Rust ``tokenizers``."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from mmreid_text.atomic_write import write_text
from mmreid_text.registry import TRANSFORMS

VOCAB_FILE = "vocab.txt"
PAD, UNK, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
"""Beginning of a piece that continues a word."""


@TRANSFORMS.register_module()
class WordPieceTokenizer:
    """Turns sentences into ids as uncased BERT does (Devlin et al., NAACL 2019): [CLS], the pieces, [SEP], zeros.

    Accents are stripped and letters lowered. The names of special tokens mean nothing inside a sentence.

    A name of the Hugging Face hub is looked up when the first sentence is read, so that configs build without network.
    Pickling passes the name of the vocabulary alone.

    Args:
        vocab: A text file with a piece per line, line 0 being [PAD]; a folder that holds such a ``vocab.txt``; or the
            name of a model on the Hugging Face hub. ``tools/build_vocab.py`` makes a file from captions.

    Raises:
        FileNotFoundError: There is no such file, or the hub cannot be reached and the cache lacks it.
        ValueError: The file is no vocabulary of BERT's.

    Config::

        dict(type='Tokenize', max_length=100, tokenizer=dict(
            type='WordPieceTokenizer', vocab='google-bert/bert-base-uncased'))
    """

    def __init__(self, vocab: str | os.PathLike[str]) -> None:
        self.vocab = os.fspath(vocab)
        if not _is_hub_name(self.vocab):
            _pieces(self.vocab)

    def __reduce__(self) -> tuple[type["WordPieceTokenizer"], tuple[str]]:
        return WordPieceTokenizer, (self.vocab,)

    def __call__(self, sentences: Iterable[str], max_length: int = 100) -> np.ndarray:
        """Tokenize sentences.

        Args:
            sentences: B captions as written.
            max_length: Ids per row with [CLS] and [SEP], at least 2. Longer captions lose their end and keep [SEP].

        Returns:
            int64 (B, max_length): [CLS], the caption's pieces, [SEP], then zeros.
        """
        if max_length < 2:
            raise ValueError(f"max_length={max_length} leaves no room for [CLS] and [SEP]: give at least 2.")
        if isinstance(sentences, str):
            raise TypeError(f"Expected a list of sentences, got one string: pass [{sentences[:30]!r}].")
        sentences = list(sentences)
        ids = np.zeros((len(sentences), max_length), dtype=np.int64)
        pieces = self.pieces
        first, last = pieces.index(CLS), pieces.index(SEP)
        for row, encoding in zip(ids, _tokenizer(self.vocab).encode_batch_fast(sentences)):
            words = encoding.ids[: max_length - 2]
            row[0] = first
            row[1 : len(words) + 1] = words
            row[len(words) + 1] = last
        return ids

    @property
    def mask_id(self) -> int:
        """Id of [MASK]."""
        return self.pieces.index(MASK)

    @property
    def vocab_size(self) -> int:
        """Number V of pieces; ids are 0 to this less one."""
        return len(self.pieces)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The pieces by id."""
        return _pieces(self.vocab)

    @cached_property
    def special_ids(self) -> np.ndarray:
        """int64 (5,): ids of [PAD], [UNK], [CLS], [SEP] and [MASK]."""
        return np.array([self.pieces.index(name) for name in SPECIAL])

    @cached_property
    def continues(self) -> np.ndarray:
        """bool (V,): whether a piece continues the word of the piece before it."""
        return np.array([piece.startswith(CONTINUES) for piece in self.pieces])

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The piece of each id."""
        return [self.pieces[int(i)] for i in ids]

    def __repr__(self) -> str:
        return f"WordPieceTokenizer(vocab={self.vocab!r})"


def write_vocabulary(path: str | os.PathLike[str], captions: Iterable[str], size: int = 30522) -> int:
    """Write the words of captions to a file that :class:`WordPieceTokenizer` reads, for a BERT trained from nothing.

    Pieces are the captions' letters, alone and as continuations, which spell any other word of theirs, and their words,
    the frequent ones first. Equal captions give equal files, whatever their order.

    Args:
        path: The file.
        captions: Sentences as written.
        size: Most pieces to keep, special ones and letters included.

    Returns:
        The number of pieces.

    Raises:
        ValueError: ``size`` is too small for the letters.
    """
    plain = _plain({})
    words: Counter[str] = Counter()
    for caption in captions:
        normal = plain.normalizer.normalize_str(caption)
        words.update(word for word, _ in plain.pre_tokenizer.pre_tokenize_str(normal))
    letters = sorted({letter for word in words for letter in word})
    pieces = [*SPECIAL, *letters, *(CONTINUES + letter for letter in letters)]
    if len(pieces) > size:
        raise ValueError(f"size={size} is too small: letters and special pieces alone are {len(pieces)}.")
    ranked = sorted(words.keys() - set(letters), key=lambda word: (-words[word], word))
    pieces += ranked[: size - len(pieces)]
    write_text(Path(path), "\n".join(pieces) + "\n")
    return len(pieces)


def _vocab_file(vocab: str) -> str:
    path = Path(vocab).expanduser()
    if path.is_dir():
        path /= VOCAB_FILE
    if path.is_file():
        return str(path)
    if _is_hub_name(vocab):
        from mmreid_text.models.hub import download_file  # late: models import the transforms

        return str(download_file(vocab, VOCAB_FILE))
    raise FileNotFoundError(
        f"There is no vocabulary {path}. Give a text file with a word piece per line, a folder that holds its "
        f"{VOCAB_FILE}, or a Hugging Face name such as 'google-bert/bert-base-uncased'."
    )


def _is_hub_name(vocab: str) -> bool:
    return vocab.count("/") == 1 and vocab[0] not in "./~" and not Path(vocab).exists() and Path(vocab).suffix != ".txt"


@lru_cache(maxsize=8)
def _pieces(vocab: str) -> tuple[str, ...]:
    path = _vocab_file(vocab)
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no vocabulary: it is not UTF-8 text ({error}).") from error
    pieces = tuple(line.removesuffix("\r") for line in (lines[:-1] if not lines[-1] else lines))
    missing = [name for name in SPECIAL if name not in pieces]
    if missing or pieces[0] != PAD:
        reason = f"it lacks {', '.join(missing)}" if missing else f"line 1 is {pieces[0]!r}, not {PAD}"
        raise ValueError(f"{path} is no vocabulary of BERT's: {reason}. Id 0 must stand for padding.")
    lines_of: dict[str, int] = {}
    for line, piece in enumerate(pieces, 1):
        if lines_of.setdefault(piece, line) != line:
            raise ValueError(f"{path}, line {line}: {piece!r} stands on line {lines_of[piece]} already.")
    return pieces


@lru_cache(maxsize=8)
def _tokenizer(vocab: str) -> Tokenizer:
    return _plain({piece: i for i, piece in enumerate(_pieces(vocab))})


def _plain(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(
        WordPiece(
            vocab=vocabulary or {UNK: 0},
            unk_token=UNK,
            continuing_subword_prefix=CONTINUES,
            max_input_chars_per_word=100,
        )
    )
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer
