"""CLIP's byte-pair tokenizer with IRRA's mask token, on the Rust ``tokenizers``."""

import gzip
import hashlib
import html
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import ftfy
import numpy as np
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps

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
# Sentences whose ids tell versions of the cleaning and splitting libraries apart.
_PROBES = (
    *("A man's don\u2019t \u201cblack\u201d naïve CAFÉ", "it&amp;#39;s &lt;b&gt; &hellip;", "Ã© â€™ œ \ufb01ne"),
    *("\u017fhoe it'\u017f \u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3 \u0130stanbul", "上衣 红色的 जैकेट кофта"),
    *("👟🧥 \u200b\ufeff\xa0\u3000", "e\u0301 \u0345", "½ Ⅷ 3.5 #1 \x1b[31m\x0c", "Jekyll <|mask|>"),
)


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
        merges = read_merges()
        alphabet = _byte_alphabet()
        tokens = [*alphabet, *(a + "</w>" for a in alphabet), *(a + b for a, b in merges), *_SPECIAL]
        self.vocabulary = tokens  # by id
        model = BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
        )
        self._bpe = Tokenizer(model)
        self._bpe.pre_tokenizer = Steps(
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
        encode = self._bpe.encode
        return pad_tokens([encode(clean_text(sentence)).ids for sentence in _check_sentences(sentences)], max_length)

    def uncut(self, sentences: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenize many sentences at once, to be kept and padded by :func:`pad_tokens` later.

        The library spreads the work over threads unless the variable ``TOKENIZERS_PARALLELISM`` is 'false'.

        Returns:
            ``tokens`` uint16 (T,), the tokens of all sentences between SOT and EOT, and ``ends`` int32 (B + 1,): the
            tokens of sentence i are ``tokens[ends[i]:ends[i + 1]]``.
        """
        cleaned = [clean_text(sentence) for sentence in _check_sentences(sentences)]
        encoded = [encoding.ids for encoding in self._bpe.encode_batch_fast(cleaned)]
        ends = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
        return np.fromiter(chain.from_iterable(encoded), np.uint16, ends[-1]), ends

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the vocabulary and the ids of probing sentences: ids that were kept are valid for it alone."""
        probed = [self._bpe.encode(clean_text(sentence)).ids for sentence in _PROBES]
        return hashlib.sha256("\n".join([*self.vocabulary, _WORD, str(probed)]).encode()).hexdigest()

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
            token = self.vocabulary[int(i)]
            if int(i) < MASK:
                token = bytes(to_byte[c] for c in token.removesuffix("</w>")).decode(errors="replace")
            texts.append(token)
        return texts


def pad_tokens(tokens: Sequence[Sequence[int] | np.ndarray], max_length: int) -> np.ndarray:
    """Frame the tokens of B sentences by SOT and EOT, and cut or pad them with zeros.

    Args:
        tokens: For each sentence its ids between SOT and EOT, uncut.
        max_length: Ids per row, at least 2. Longer sentences lose their end and keep EOT.

    Returns:
        int64 (B, max_length).
    """
    ids = np.zeros((len(tokens), max_length), dtype=np.int64)
    for row, known in zip(ids, tokens):
        end = min(len(known), max_length - 2) + 1
        row[0] = SOT
        row[1:end] = known[: end - 1]
        row[end] = EOT
    return ids


@cache
def get_tokenizer() -> ClipTokenizer:
    """The process's one :class:`ClipTokenizer`, built at the first call (a fifth of a second)."""
    return ClipTokenizer()


def read_merges() -> list[tuple[str, str]]:
    """CLIP's merges in order of rank, less the last; see :class:`ClipTokenizer` for errors."""
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
