"""What pseudo texts can say of a person: attributes, their classes and phrases, read from a file that users edit."""

import difflib
import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

#: The vocabulary that comes with the package.
STANDARD = Path(__file__).with_name("vocabulary.yaml")
#: Attributes that every person has; of each the likeliest class is told.
REQUIRED = ("gender", "age", "upper", "lower", "action", "hair")
#: Attributes that are told where they are likely enough, in the order in which UniPT's Figure 3 counts them.
OPTIONAL = ("bag", "cellphone", "glasses", "hat", "vehicle", "gloves", "umbrella", "smoke")
SLOTS = (*REQUIRED, *OPTIONAL)
#: Attributes that a vocabulary cannot leave out: sentences are built around them.
CORE = ("gender", "upper", "lower")
#: Attributes that are told of everybody, so that no class silences them.
_ALWAYS_TOLD = ("gender", "upper")
#: Attributes whose phrases are no things, so that they are neither plural nor without article.
_NO_THINGS = ("gender", "age", "action")
#: Attributes of which a plural may be told as a pair.
_PAIRS = ("lower", "glasses", "gloves")
_SINGLE_TO_PAIR = 3
"""Plain plurals to one pair among the ways to say a class."""
_MOST_CLASSES = 10_000
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PHRASE = re.compile(r"[^\W_]+(?:['-][^\W_]+)*(?: [^\W_]+(?:['-][^\W_]+)*)*")
_AN = re.compile(r"(?!uni(?!n|m)|us(?:e|ual)|eu|one(?![a-z])|once)[aeiou]|hour|honest|heir", re.IGNORECASE)


def with_article(phrase: str) -> str:
    """A phrase behind its indefinite article.

    >>> with_article("umbrella"), with_article("one-piece dress")
    ('an umbrella', 'a one-piece dress')
    """
    return f"{'an' if _AN.match(phrase) else 'a'} {phrase}"


@dataclass(frozen=True)
class PhraseClass:
    """One value of an attribute.

    Attributes:
        parts: Its name, or the names of what it is a product of: ``('red', 'striped', 'coat')``.
        prompt: The sentence that is scored against images.
        said: The ways to say it in a sentence, article included; equal ones weigh more. Empty for an absence.
        silences: Attributes that are not told beside it.
    """

    parts: tuple[str, ...]
    prompt: str
    said: tuple[str, ...]
    silences: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " ".join(self.parts)


@dataclass(frozen=True)
class Attribute:
    """One of :data:`SLOTS` with its classes.

    Attributes:
        slot: Its name.
        classes: At least two; the last one of an optional attribute is its absence.
        part_names: Its name, or those of the lists that its classes are a product of.
    """

    slot: str
    classes: tuple[PhraseClass, ...]
    part_names: tuple[str, ...]

    @property
    def required(self) -> bool:
        return self.slot in REQUIRED


@dataclass(frozen=True)
class Vocabulary:
    """Attributes in the order of :data:`SLOTS`, and the pronouns of each class of gender.

    Attributes:
        attributes: Those that the file has, gender first.
        pronouns: Subject and possessive by class of gender; ``they`` takes the verbs of a plural.
        fingerprint: sha256 of all of it.
    """

    attributes: tuple[Attribute, ...]
    pronouns: Mapping[str, tuple[str, str]]

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.attributes, sorted(self.pronouns.items()))).encode()).hexdigest()

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(attribute.slot for attribute in self.attributes)

    @property
    def prompts(self) -> list[str]:
        """The prompts of all classes, attribute by attribute."""
        return [each.prompt for attribute in self.attributes for each in attribute.classes]

    @cached_property
    def silenced(self) -> tuple[np.ndarray, ...]:
        """For each attribute bool (C, A): which of the A attributes are not told beside each of its C classes."""
        return tuple(
            np.array([[slot in each.silences for slot in self.slots] for each in attribute.classes])
            for attribute in self.attributes
        )

    def spans(self) -> Iterator[slice]:
        """Where each attribute's classes lie among :attr:`prompts`."""
        start = 0
        for attribute in self.attributes:
            yield slice(start, start + len(attribute.classes))
            start += len(attribute.classes)


def load_vocabulary(path: str | os.PathLike[str] | None = None) -> Vocabulary:
    """Read a vocabulary; ``vocabulary.yaml`` in this package shows and explains the format.

    Args:
        path: YAML in UTF-8; None for :data:`STANDARD`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is malformed, names an unknown attribute, leaves one empty or without prompt, repeats a phrase,
            or lacks the pronouns of a class of gender. The error names file and line.
    """
    path = Path(path or STANDARD)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such vocabulary; {STANDARD} shows what one looks like")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), _LOADER)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}:{line} is no YAML ({error.problem}); see {STANDARD.name} in the package") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML ({error})") from error
    return _Reader(path).vocabulary(node)


@dataclass(frozen=True)
class _Phrase:
    """A phrase as the file has it, without its mark."""

    text: str
    mark: str  # '', '+' plural or '*' without article


@dataclass(frozen=True)
class _Values:
    """Classes of an attribute or a list, each with its phrases."""

    name: str
    line: int
    phrases: Mapping[str, tuple[_Phrase, ...]]


class _Reader:
    """Turns YAML nodes, which know their lines, into a vocabulary."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prompt: str | None = None
        self.lists: dict[str, _Values] = {}

    def vocabulary(self, node: yaml.Node | None) -> Vocabulary:
        keys = self._mapping(node, "the file", ("prompt", "pronouns", "lists", "attributes", "silences"))
        if "attributes" not in keys:
            raise self._error(node, "the file has no `attributes`")
        if "prompt" in keys:
            self.prompt = self._prompt(keys["prompt"])
        for name, one in self._mapping(keys.get("lists"), "`lists`").items():
            self.lists[name] = self._values(name, one, is_list=True)
        found = {}
        for slot, one in self._mapping(keys["attributes"], "`attributes`", SLOTS, "attribute").items():
            found[slot] = self._attribute(slot, one)
        for slot in CORE:
            if slot not in found:
                raise self._error(keys["attributes"], f"`attributes` lacks {slot!r}, which every sentence needs")
        for slot, one in self._mapping(keys.get("silences"), "`silences`", tuple(found), "attribute").items():
            found[slot] = self._silencing(found[slot], one, tuple(found))
        attributes = tuple(found[slot] for slot in SLOTS if slot in found)
        return Vocabulary(attributes, self._pronouns(keys, attributes[0]))

    def _attribute(self, slot: str, node: yaml.Node) -> Attribute:
        keys = self._mapping(node, f"attribute {slot!r}", ("prompt", "none", "classes", "product"))
        optional = slot in OPTIONAL
        if ("classes" in keys) == ("product" in keys):
            raise self._error(node, f"attribute {slot!r} is empty: give it `classes`, or the `product` of lists")
        if optional != ("none" in keys):
            rule = "needs `none`, how its absence is scored" if optional else "takes no `none`: everybody has it"
            raise self._error(node, f"attribute {slot!r} {rule}")
        prompt = self._prompt(keys["prompt"]) if "prompt" in keys else self.prompt
        if prompt is None:
            raise self._error(node, f"attribute {slot!r} has no prompt, and the file has no `prompt` for all")
        if "classes" in keys:
            parts = [self._values(slot, keys["classes"], is_list=False)]
        else:
            parts = self._product(slot, keys["product"])
        classes = _combine(slot, parts, prompt)
        if optional:
            absence = self._phrase(keys["none"], f"`none` of {slot!r}")
            classes.append(PhraseClass(("none",), prompt.replace("{}", absence.text), ()))
        if len(classes) < 2:
            raise self._error(node, f"attribute {slot!r} has one class alone: there is nothing to choose")
        return Attribute(slot, tuple(classes), tuple(part.name for part in parts))

    def _silencing(self, attribute: Attribute, node: yaml.Node, slots: Sequence[str]) -> Attribute:
        """The attribute with what its classes silence."""
        where = f"`silences` of {attribute.slot!r}"
        names = tuple(dict.fromkeys(part for each in attribute.classes if each.said for part in each.parts))
        silent: dict[str, list[str]] = {}
        for name, one in self._mapping(node, where, names, "class").items():
            silent[name] = []
            for item in self._items(one, f"{where}: {name!r}"):
                slot = self._word(item, where)
                if slot not in slots:
                    raise self._error(
                        item, f"{where}: {name!r} names the unknown attribute {slot!r}" + _near(slot, slots)
                    )
                if slot in (*_ALWAYS_TOLD, attribute.slot):
                    raise self._error(item, f"{where}: {name!r} cannot silence {slot!r}")
                silent[name].append(slot)
        classes = (
            replace(each, silences=tuple(slot for part in each.parts for slot in silent.get(part, ())))
            for each in attribute.classes
        )
        return replace(attribute, classes=tuple(classes))

    def _product(self, slot: str, node: yaml.Node) -> list[_Values]:
        parts = []
        for one in self._items(node, f"`product` of {slot!r}"):
            name = self._word(one, f"`product` of {slot!r}")
            if name not in self.lists:
                raise self._error(
                    one, f"`product` of {slot!r} names the unknown list {name!r}" + _near(name, self.lists)
                )
            parts.append(self.lists[name])
        count = 1
        for part in parts:
            count *= len(part.phrases)
        if count > _MOST_CLASSES:
            raise self._error(node, f"`product` of {slot!r} makes {count:,} classes; {_MOST_CLASSES:,} are the most")
        for part in parts[:-1]:
            if any(phrase.mark for said in part.phrases.values() for phrase in said):
                raise self._error(node, f"list {part.name!r} has marked phrases (+, *): it must come last in {slot!r}")
        if any(not phrase.text for said in parts[-1].phrases.values() for phrase in said):
            raise self._error(node, f"list {parts[-1].name!r} has an empty phrase: it must not come last in {slot!r}")
        return parts

    def _values(self, name: str, node: yaml.Node, is_list: bool) -> _Values:
        what = f"list {name!r}" if is_list else f"attribute {name!r}"
        lines: dict[str, int] = {}
        values = {}
        for each, said in self._mapping(node, what).items():
            if each == "none" and name in OPTIONAL:
                raise self._error(said, f"{what} has a class 'none': put it beside `classes`")
            phrases = []
            for one in self._items(said, f"class {each!r} of {what}"):
                phrase = self._phrase(one, f"class {each!r} of {what}", empty=is_list, mark=name not in _NO_THINGS)
                line = one.start_mark.line + 1
                first = lines.setdefault(phrase.text.lower(), line)
                if first != line or phrase in phrases:
                    raise self._error(one, f"repeats the phrase {phrase.text!r} of line {first}")
                phrases.append(phrase)
            if not phrases[0].text:
                raise self._error(
                    said, f"class {each!r} of {what} begins with the empty phrase, but the first is scored"
                )
            values[each] = tuple(phrases)
        if not values:
            raise self._error(node, f"{what} is empty: give it a class such as `red: [red, scarlet]`")
        return _Values(name, node.start_mark.line + 1, values)

    def _pronouns(self, keys: Mapping[str, yaml.Node], gender: Attribute) -> dict[str, tuple[str, str]]:
        need = "`pronouns` must give each class of gender a subject and a possessive, such as `man: [he, his]`"
        if "pronouns" not in keys:
            raise self._error(keys["attributes"], f"the file has attributes, but no `pronouns`: {need}")
        names = [each.name for each in gender.classes]
        pronouns = {}
        for name, node in self._mapping(keys["pronouns"], "`pronouns`", names, "class of gender").items():
            words = [
                self._phrase(one, f"pronouns of {name!r}").text for one in self._items(node, f"pronouns of {name!r}")
            ]
            if len(words) != 2:
                raise self._error(node, f"pronouns of {name!r} are {words}: {need}")
            pronouns[name] = (words[0], words[1])
        for name in names:
            if name not in pronouns:
                raise self._error(keys["pronouns"], f"`pronouns` lacks the class of gender {name!r}: {need}")
        return pronouns

    def _prompt(self, node: yaml.Node) -> str:
        text = self._word(node, "`prompt`")
        if text.count("{}") != 1:
            raise self._error(node, f"the prompt {text!r} must hold {{}}, the place of the phrase, once")
        return text

    def _phrase(self, node: yaml.Node, where: str, empty: bool = False, mark: bool = False) -> _Phrase:
        text = self._word(node, where)
        if empty and not text:
            return _Phrase("", "")
        bare = text[:-1] if text[-1:] in ("+", "*") and mark else text
        words = bare.lower().split()
        if not _PHRASE.fullmatch(bare):
            rule = (
                "words parted by single spaces, marked by + or * at the end"
                if mark
                else "words parted by single spaces"
            )
            raise self._error(node, f"{where}: the phrase {text!r} must be {rule}")
        if words[0] in ("a", "an", "the"):
            raise self._error(node, f"{where}: the phrase {text!r} begins with an article, which sentences put there")
        if any(one == other for one, other in itertools.pairwise(words)):
            raise self._error(node, f"{where}: the phrase {text!r} has a word twice in a row")
        return _Phrase(bare, text[len(bare) :])

    def _word(self, node: yaml.Node, where: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, f"{where} must hold text here")
        return node.value

    def _items(self, node: yaml.Node, where: str) -> Sequence[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self._error(node, f"{where} is empty or no list: write `[..., ...]`")
        return node.value

    def _mapping(
        self, node: yaml.Node | None, where: str, known: Sequence[str] | None = None, kind: str = "key"
    ) -> dict[str, yaml.Node]:
        """Values by key, in order; only ``known`` keys, none twice."""
        if node is None:
            if where == "the file":
                raise self._error(node, "the file is empty")
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{where} is empty or no table: write `name: ...` lines")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self._word(key, where)
            if name in found:
                raise self._error(key, f"{where} has {name!r} twice")
            if known is not None and name not in known:
                raise self._error(key, f"{where} has the unknown {kind} {name!r}" + _near(name, known))
            found[name] = value
        return found

    def _error(self, node: yaml.Node | None, message: str) -> ValueError:
        line = 1 if node is None else node.start_mark.line + 1
        return ValueError(f"{self.path}:{line} {message}")


def _combine(slot: str, parts: Sequence[_Values], prompt: str) -> list[PhraseClass]:
    """A class for every combination of the parts' classes."""
    classes = []
    for chosen in itertools.product(*(part.phrases.items() for part in parts)):
        names = tuple(name for name, _ in chosen)
        said = [_told(slot, combination) for combination in itertools.product(*(phrases for _, phrases in chosen))]
        scored = _told(slot, [phrases[0] for _, phrases in chosen])[0]
        if slot == "gender" or slot == "age":
            scored = with_article(scored)
        classes.append(PhraseClass(names, prompt.replace("{}", scored), tuple(itertools.chain.from_iterable(said))))
    return classes


def _told(slot: str, phrases: Sequence[_Phrase]) -> list[str]:
    """Ways to say a combination of phrases; people get their article in the sentence, which puts an age between."""
    text, mark = " ".join(phrase.text for phrase in phrases if phrase.text), phrases[-1].mark
    if slot in _NO_THINGS or mark == "*":
        return [text]
    if mark == "+":
        return [text] * _SINGLE_TO_PAIR + [f"a pair of {text}"] if slot in _PAIRS else [text]
    return [with_article(text)]


def _near(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
