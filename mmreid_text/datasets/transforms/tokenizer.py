"""CLIP's byte-pair tokenizer with IRRA's mask token, on the Rust ``tokenizers``."""

import gzip
import html
import re
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import ftfy
import numpy as np
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

VOCAB = 49408
MASK = 49405
SOT = 49406
EOT = 49407

_MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
_NUM_MERGES = 49152 - 256 - 2 - 1  # as OpenAI reads the file, less the last entry: its id goes to <|mask|>
_SPECIAL = ("<|mask|>", "<|startoftext|>", "<|endoftext|>")
# CLIP's word pattern. Its flag IGNORECASE has two effects that lower() leaves over: the long s serves as s, and the
# mark U+0345, which folds to a letter without being one, matches nothing and is lost.
_WORD = r"'[s\x{17f}]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"
# Printable ASCII and line white space without "&": ftfy and html.unescape change nothing in it that matters here.
_PLAIN = re.compile(r"[\t\n\r -%'-~]*")


def clean_text(text: str) -> str:
    """Clean a caption as CLIP does: mend the encoding (ftfy), unescape HTML twice, collapse white space, lower case.

    >>> clean_text(" A  Man&amp;#39;s\\n coat ")
    "a man's coat"
    """
    if not _PLAIN.fullmatch(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


class ClipTokenizer:
    """Turns sentences into CLIP's token ids, identical to OpenAI's but for IRRA's mask token.

    IRRA drops the last of CLIP's 49408 entries ('jekyll', spelt by two shorter ones since) and gives its id 49405 to
    ``<|mask|>``, so that SOT 49406, EOT 49407 and the size of the vocabulary stay as the weights know them.
    The names of special tokens mean nothing inside a sentence: they are spelt out like any other text, whereas
    OpenAI's code would put a second SOT or EOT there.

    Build it by :func:`get_tokenizer`, once in a process; pickling passes only that call.

    Raises:
        FileNotFoundError: The merges that the package ``open_clip_torch`` ships are not there.
    """

    def __init__(self) -> None:
        merges = _read_merges()
        alphabet = _byte_alphabet()
        tokens = [*alphabet, *(a + "</w>" for a in alphabet), *(a + b for a, b in merges), *_SPECIAL]
        self._tokens = tokens
        model = BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
        )
        self._bpe = Tokenizer(model)
        self._bpe.pre_tokenizer = Sequence(
            [Split(Regex(_WORD), behavior="removed", invert=True), ByteLevel(add_prefix_space=False, use_regex=False)]
        )

    def __reduce__(self) -> tuple[Callable[[], "ClipTokenizer"], tuple[()]]:
        return get_tokenizer, ()

    def __call__(self, sentences: Iterable[str], max_length: int = 77) -> np.ndarray:
        """Tokenize sentences.

        Args:
            sentences: B captions as written; they are cleaned here.
            max_length: Ids per row with SOT and EOT, at least 2. Longer captions lose their end and keep EOT.

        Returns:
            int64 (B, max_length): SOT, the caption's tokens, EOT, then zeros.
        """
        _check_length(max_length)
        sentences = _check_sentences(sentences)
        ids = np.zeros((len(sentences), max_length), dtype=np.int64)
        for row, sentence in zip(ids, sentences):
            tokens = self._bpe.encode(clean_text(sentence)).ids[: max_length - 2]
            end = len(tokens) + 1
            row[0] = SOT
            row[1:end] = tokens
            row[end] = EOT
        return ids

    def spans(self, sentence: str, max_length: int = 77) -> list[tuple[int, int]]:
        """Character spans (start, end) in ``clean_text(sentence)`` of the tokens between SOT and EOT.

        A character of several bytes may belong to several tokens; each of them then spans the whole character.
        """
        _check_length(max_length)
        (sentence,) = _check_sentences([sentence])
        return self._bpe.encode(clean_text(sentence)).offsets[: max_length - 2]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Text of each id, special tokens by name and id 0 as '!', which is what CLIP's padding reads as.

        A token that holds a part of a character's bytes shows U+FFFD in its place.
        """
        to_byte = _byte_of()
        texts = []
        for i in ids:
            if not 0 <= int(i) < VOCAB:
                raise ValueError(f"Token id {int(i)} is outside CLIP's vocabulary 0..{VOCAB - 1}.")
            token = self._tokens[int(i)]
            if int(i) < MASK:
                token = bytes(to_byte[c] for c in token.removesuffix("</w>")).decode(errors="replace")
            texts.append(token)
        return texts


@cache
def get_tokenizer() -> ClipTokenizer:
    """The process's one :class:`ClipTokenizer`, built at the first call (a fifth of a second)."""
    return ClipTokenizer()


def _read_merges() -> list[tuple[str, str]]:
    spec = find_spec("open_clip")  # finds the folder without importing the package, which would take seconds
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = next((p for p in (Path(folder) / _MERGES_FILE for folder in folders) if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"CLIP's merges {_MERGES_FILE} come with the package open_clip_torch, and "
            + (f"{folders[0]} has no such file" if folders else "the package is not installed")
            + ": run `pip install --force-reinstall open_clip_torch`."
        )
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : _NUM_MERGES + 1]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    if len(merges) != _NUM_MERGES:
        raise ValueError(f"{path} holds {len(merges)} merges, CLIP needs {_NUM_MERGES}: reinstall open_clip_torch.")
    return merges


@cache
def _byte_of() -> dict[str, int]:
    """The character that stands for each byte in BPE tokens, in the order of CLIP's first 256 ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def _byte_alphabet() -> list[str]:
    return list(_byte_of())


def _check_length(max_length: int) -> None:
    if max_length < 2:
        raise ValueError(f"max_length={max_length} leaves no room for SOT and EOT: give at least 2.")


def _check_sentences(sentences: Iterable[str]) -> list[str]:
    if isinstance(sentences, str):
        raise TypeError(f"Expected a list of sentences, got one string: pass [{sentences[:30]!r}].")
    sentences = list(sentences)
    for i, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise TypeError(f"Sentence {i} is {sentence!r} ({type(sentence).__name__}): captions are strings.")
    return sentences
