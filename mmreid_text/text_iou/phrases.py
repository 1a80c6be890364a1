"""From captions to sets of phrases: what they name, and how it looks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmreid_text.registry import TRANSFORMS
from mmreid_text.text_iou.lexicon import Item, Lexicon

Extractor = Callable[[str], set[str]]
"""From a caption to its phrases."""


@dataclass
class _Thing:
    name: str
    looks: list[str] = field(default_factory=list)
    absent: bool = False


class _Reader:
    """Reads the items of one caption and gathers its things. Looks wait until it is known whose they are."""

    def __init__(self) -> None:
        self.things: list[_Thing] = []
        self.forget()

    def forget(self) -> None:
        """Between sentences nothing is carried over."""
        self.last: _Thing | None = None
        self.waiting: list[str] = []
        self.beside = False  # the item before was a thing
        self.open = False  # looks may still follow the last thing
        self.behind = ""  # the link since the last thing: '', 'with' or 'is'
        self.gap = 0  # unknown words behind waiting looks
        self.denied = ""  # '', 'no', or 'or' behind a thing that is denied

    def settle(self) -> None:
        """Waiting looks that no thing follows belong to the thing that they are linked to, if any."""
        if self.waiting and self.behind and self.last is not None and not self.last.absent:
            self.last.looks += self.waiting
        self.waiting, self.gap = [], 0

    def read(self, items: Iterable[Item]) -> list[_Thing]:
        for kind, name in items:
            if kind == "things":
                self.thing(name)
            elif kind == "looks":
                self.waiting.append(name)
                self.gap = 0
                self.beside = False
            elif kind != "fillers":
                self.other(kind, name)
        self.settle()
        return self.things

    def thing(self, name: str) -> None:
        if self.beside and self.last is not None:  # in 'polo neck sweater' only the last noun is meant
            self.last.name = name
            return
        self.last = _Thing(name, self.waiting, absent=self.denied == "no")
        self.things.append(self.last)
        self.waiting, self.gap = [], 0
        self.beside = self.open = True
        self.behind = ""
        self.denied = "or" if self.last.absent else ""

    def other(self, kind: str, name: str) -> None:
        self.beside = False
        if kind == "end":
            self.settle()
            self.forget()
        elif kind == "no":
            self.settle()
            self.denied = "no"
        elif kind == "and":
            self.join(name)
        elif kind in ("is", "with"):
            if self.open:
                self.link(kind)
            else:
                self.settle()
        elif kind == "close":
            self.settle()
        elif self.waiting:
            self.gap += 1
            if self.gap > 1 or self.behind == "is":
                self.settle()
                self.open, self.behind = False, ""
        else:
            self.open, self.behind = False, ""

    def link(self, kind: str) -> None:
        # In 'of a jet black shade' the article leaves 'of' in force.
        self.behind = kind if kind == "is" or self.waiting or not self.behind else self.behind
        self.settle()

    def join(self, name: str) -> None:
        if self.behind == "is":
            self.settle()
        elif not self.behind:
            self.open = False
        self.denied = "no" if self.denied == "or" and name == "or" else ""


@TRANSFORMS.register_module()
class LexiconPhrases:
    """Phrases of a caption by a lexicon of person descriptions.

    A thing counts by itself and once more with each of its looks: 'a red shirt' is {shirt, red shirt}. So it shares
    half with 'a shirt', a third with 'a blue shirt' and nothing with 'red shoes'. A thing that is denied is another
    phrase: 'no hat' has nothing of 'a hat'. Persons and unknown words are left out.

    Looks belong to the thing they stand before ('a red and white shirt'), with an unknown word between at most, or to
    the thing that they are linked to ('shoes that are white', 'a coat in blue', 'a cap (navy)').

    Args:
        lexicon: File; None takes the package's ``mmreid_text/text_iou/lexicon.txt``. Copy and edit it for other words.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line of it is wrong; names the line.

    Use in configs::

        custom_hooks = [dict(type='TextIoUHook', extractor=dict(type='LexiconPhrases', lexicon='words.txt'))]
    """

    def __init__(self, lexicon: str | None = None) -> None:
        self.lexicon = Lexicon.read(lexicon)

    def __call__(self, caption: str) -> set[str]:
        phrases: set[str] = set()
        for thing in _Reader().read(self.lexicon.items(caption)):
            if thing.absent:
                phrases.add(f"no {thing.name}")
            else:
                phrases.add(thing.name)
                phrases.update(f"{look} {thing.name}" for look in thing.looks)
        return phrases


@TRANSFORMS.register_module()
class SpacyPhrases:
    """Phrases of a caption by spaCy's noun chunks, for captions whose words are in no lexicon.

    A chunk's last noun counts by itself and once more with each adjective and noun before it, as lemmas. Synonyms stay
    apart, and looks behind the noun ('shoes that are white') are not found.

    Args:
        model: spaCy's pipeline, a name or a folder.
        ignored: Lemmas of nouns that are left out: persons, and what every picture has.

    Raises:
        ImportError: spaCy is not installed, or not this pipeline.

    Use in configs::

        custom_hooks = [dict(type='TextIoUHook', extractor=dict(type='SpacyPhrases', model='en_core_web_sm'))]
    """

    def __init__(
        self,
        model: str = "en_core_web_sm",
        ignored: Iterable[str] = ("man", "woman", "person", "male", "female", "lady", "guy", "boy", "girl", "picture"),
    ) -> None:
        try:
            import spacy

            self.pipeline: Callable[[str], Any] = spacy.load(model, exclude=["ner"])
        except (ImportError, OSError) as error:
            raise ImportError(
                f"SpacyPhrases needs spaCy and its pipeline {model!r}: pip install spacy, then "
                f"python -m spacy download {model}. LexiconPhrases needs neither."
            ) from error
        self.ignored = frozenset(ignored)

    def __call__(self, caption: str) -> set[str]:
        phrases: set[str] = set()
        for chunk in self.pipeline(caption).noun_chunks:
            noun = chunk.root.lemma_.lower()
            if chunk.root.pos_ not in ("NOUN", "PROPN") or noun in self.ignored:
                continue
            phrases.add(noun)
            phrases.update(
                f"{word.lemma_.lower()} {noun}"
                for word in chunk
                if word.i < chunk.root.i and word.pos_ in ("ADJ", "NOUN", "PROPN")
            )
        return phrases


@dataclass
class PhraseTable:
    """Phrases of captions as rows of a sparse matrix.

    Attributes:
        indptr: int64 (C + 1,): the phrases of caption ``i`` stand at ``indices[indptr[i]:indptr[i + 1]]``.
        indices: int64 (nnz,): numbers of phrases, rising and distinct within a caption.
        names: What each number means.
    """

    indptr: np.ndarray
    indices: np.ndarray
    names: list[str]

    @classmethod
    def collect(cls, captions: Iterable[str], extractor: Extractor) -> "PhraseTable":
        """Read captions one by one; phrases are numbered as they turn up, so equal captions give equal tables."""
        numbers: dict[str, int] = {}
        indptr, indices = [0], []
        for caption in captions:
            indices += sorted(numbers.setdefault(phrase, len(numbers)) for phrase in sorted(extractor(caption)))
            indptr.append(len(indices))
        return cls(np.array(indptr, dtype=np.int64), np.array(indices, dtype=np.int64), list(numbers))

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def phrases(self, row: int) -> list[str]:
        """Phrases of a caption."""
        return [self.names[i] for i in self.indices[self.indptr[row] : self.indptr[row + 1]]]

    def summary(self) -> str:
        """One line of counts."""
        counts = np.diff(self.indptr)
        return (
            f"{len(self):,} captions with {counts.mean() if len(self) else 0:.1f} phrases each on the mean, "
            f"{len(self.names):,} different ones; {int((counts == 0).sum()):,} captions without any"
        )
