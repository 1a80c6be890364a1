"""From captions to sets of phrases: what they name, and how it looks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmreid_text.registry import TRANSFORMS
from mmreid_text.text_iou.lexicon import Item, Lexicon

Extractor = Callable[[str], set[str]]
"""From a caption to its phrases."""

_IS = ("is",)
_LINKS = ("is", "with")


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
        self.noun = False  # waiting looks end with a noun that carries them, as in 'red stripes'
        self.before = ""  # the item before, '' if it was a thing
        self.open: tuple[str, ...] = ()  # links by which looks may still follow the last thing
        self.behind = ""  # the link since the last thing: '', 'with' or 'is'
        self.gap = 0  # unknown words behind waiting looks
        self.denied = ""  # '', 'no', or 'or' behind a thing that is denied

    def settle(self) -> None:
        """Waiting looks that no thing follows belong to the thing that they are linked to, if any and if so."""
        if self.waiting:
            if self.denied == "no":
                self.denied = ""
            elif self.behind and self.last is not None and not self.last.absent:
                self.last.looks += self.waiting
            self.waiting = []
        self.gap, self.noun = 0, False

    def read(self, items: Iterable[Item]) -> list[_Thing]:
        for kind, name in items:
            if kind == "things":
                self.thing(name)
                continue
            if kind == "looks" or kind == "patterns":
                self.waiting.append(name)
                self.gap, self.noun = 0, kind == "patterns"
            elif kind == "nouns":
                self.noun = True
            elif kind == "colon":  # 'shirt: red', but 'on the head: a red cap'
                self.other("is" if self.last is not None and not self.before else "end", name)
            elif kind != "fillers":
                self.other(kind, name)
            self.before = name
        self.settle()
        return self.things

    def thing(self, name: str) -> None:
        if not self.before and self.last is not None:  # in 'polo neck sweater' only the last noun is meant
            self.last.name = name
            return
        self.last = _Thing(name, self.waiting, absent=self.denied == "no")
        self.things.append(self.last)
        self.waiting, self.gap, self.noun = [], 0, False
        self.open, self.before, self.behind = _LINKS, "", ""
        self.denied = "or" if self.last.absent else ""

    def other(self, kind: str, name: str) -> None:
        if self.noun and self.behind:  # 'a shirt with red stripes and ...': these looks wait for no thing
            self.settle()
        if kind in _LINKS:
            self.link(kind)
        elif kind == "and":
            self.join(name)
        elif kind == "unknown":
            self.unknown()
        elif kind == "which":
            if self.before == ",":
                self.open = _LINKS
            self.link("with")
        elif kind == "back":
            self.give_back()
        else:
            self.settle()
            if kind == "end":
                self.forget()
            elif kind == "no":
                self.denied = "no"
            elif kind == "verbs":  # 'the shirt he wears is red', but 'a shirt, wearing a red ...'
                self.open, self.behind = self.open and _IS, ""

    def unknown(self) -> None:
        if self.denied == "no":  # 'not tucked into his trousers'
            self.settle()
            self.denied = ""
        if self.waiting:
            self.gap += 1
            if self.gap == 1 and self.behind != "is":
                return
            self.settle()
        self.open, self.behind = (), ""

    def link(self, kind: str) -> None:
        if kind not in self.open:
            self.settle()
            return
        # In 'of a jet black shade' the article leaves 'of' in force.
        self.behind = kind if kind == "is" or self.waiting or not self.behind else self.behind
        self.open = _LINKS
        self.settle()

    def join(self, name: str) -> None:
        if self.denied == "no":  # 'not red or blue', but 'not red, and a hat'
            if name == "or":
                return
            self.settle()
        if self.behind == "is":
            self.settle()
        elif not self.behind:
            self.open = ()
        self.denied = "no" if self.denied == "or" and name == "or" else ""

    def give_back(self) -> None:
        """'A shirt, red in color, and ...'; but in 'a shirt in color red' nothing waits yet."""
        if self.waiting:
            self.behind = "is"
            self.settle()
            self.behind = ""
        else:
            self.link("is")


@TRANSFORMS.register_module()
class LexiconPhrases:
    """Phrases of a caption by a lexicon of person descriptions.

    A thing counts by itself and once more with each of its looks: 'a red shirt' is {shirt, red shirt}. So it shares
    half with 'a shirt', a third with 'a blue shirt' and nothing with 'red shoes'. A thing that is denied is another
    phrase: 'no hat' has nothing of 'a hat'. Persons and unknown words are left out.

    With a look a thing counts as its broader kinds too: 'red sneakers' is {sneakers, red sneakers, red shoes}; that two
    people wear shoes says nothing. A look can make another thing of it, wherever it stands: 'a short sleeved blue
    shirt' and 'a blue shirt with short sleeves' are both {t-shirt, blue t-shirt, blue shirt}.

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
            name, looks = self._renamed(thing.name, thing.looks)
            if thing.absent:
                phrases.add(f"no {name}")
                continue
            phrases.add(name)
            phrases.update(f"{look} {name}" for look in looks)
            for kind in self.lexicon.kinds[name][1:] if looks else ():
                called, left = self._renamed(kind, looks)  # a sleeveless blouse is what a sleeveless shirt is
                phrases.update(f"{look} {called}" for look in left)
                if called != kind:
                    phrases.add(called)
        return phrases

    def _renamed(self, name: str, looks: list[str]) -> tuple[str, list[str]]:
        """Take looks into the name, in the order of the lexicon, so that the order of the caption does not matter."""
        for look, other in self.lexicon.renamed.get(name, {}).items() if looks else ():
            if look in looks:
                return self._renamed(other, [left for left in looks if left != look])
        return name, looks


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
