"""Sentence patterns of captions: what is left when the words for a person's attributes are abstracted to slots."""

import re
from collections.abc import Sequence
from functools import lru_cache

from mmreid_text.captioning.attribute_words import JOINED, is_wording, slot_of
from mmreid_text.evaluation.word_classes import LEXICON

_TOKENS = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[^\w\s]")
_JOINS = re.compile("|".join(rf"\b{phrase}\b" for phrase in JOINED))
_ARTICLES = frozenset(("a", "an", "the", "his", "her", "their", "its", "my", "your", "this", "some", "one", "two"))
# What only number and sex decide, which belong to the attributes.
_SAME = {
    **dict.fromkeys(("he", "she", "they"), "they"),
    **dict.fromkeys(("his", "her", "their", "him", "them"), "their"),
    **dict.fromkeys(("is", "are"), "is"),
    **dict.fromkeys(("was", "were"), "was"),
    **dict.fromkeys(("has", "have"), "has"),
    **dict.fromkeys(("a", "an"), "a"),
}
# A list of things of one slot, a thing with its looks and a thing with its place on the body are one filling.
_DONE = r"(?:tied|pulled|gathered|styled|worn|tucked)(?: up| back)? (?:in|into)"
_LIST = re.compile(rf"(\[\w+\])(?: (?:,|and|, and|with|over|under|in|on|plus|{_DONE}) \1)+")
_LOOKS = re.compile(r"(\[\w+\]) (?:in|with|of|that is|which is) \[look\](?! \[)")
_PLACE = re.compile(
    r"(\[\w+\]) (?:in|on|over|around|across|at|by) (?:the|their|one|both) (?:left |right )?"
    r"(?:arm|back|face|hand|head|hip|neck|shoulder|side|waist|wrist)s?\b"
)
_MORE_LOOKS = re.compile(r"\[look\] (?:and|,) (\[\w+\])|(\[(?!look)\w+\]) (?:and|, and) \[look\](?! \[)")
_AMOUNT = re.compile(r"\[\w+\] of (\[(?!look)\w+\])")


@lru_cache(maxsize=2**17)
def _kind(token: str) -> str:
    """A slot, 'look', 'before', 'wording' (marks, too), or 'unknown'."""
    slot = slot_of(token)
    if slot:
        return slot
    if token.endswith("ly") and len(token) > 4:  # closely cropped, but closely watched
        return "before"
    return "wording" if not token[0].isalnum() or is_wording(token) else "unknown"


def tokens_of(caption: str) -> list[str]:
    """Words and marks of a caption, in lower case.

    >>> tokens_of("A man, in a T-shirt.")
    ['a', 'man', ',', 'in', 'a', 't-shirt', '.']
    """
    return _TOKENS.findall(caption.lower())


def pattern_of(caption: str) -> str:
    """The caption with every attribute abstracted, so that captions that differ only in what they describe are equal.

    A run of attribute words with its article becomes the slot of its last noun (``[clothing]``), or ``[look]`` if it
    has none. Words of no list go with the run that they touch, or become ``[look]`` behind an article. Lists of one
    slot become one, a thing that is told with its looks (``a coat in red``) is the thing, pronouns and verbs lose sex
    and number.

    >>> pattern_of("A tall man wears a red striped T-shirt, blue jeans and a pair of white sneakers.")
    '[person] wears [clothing] and [footwear] .'
    >>> pattern_of("The woman wears an orange skirt and black boots.")
    '[person] wears [clothing] and [footwear] .'
    """
    text = _JOINS.sub(lambda match: JOINED[match[0]], caption.lower())
    tokens = _TOKENS.findall(text.replace("pair of ", ""))
    kinds = [_kind(token) for token in tokens]
    for i in range(len(tokens) - 1, -1, -1):
        if kinds[i] == "before":
            kinds[i] = "look" if i + 1 < len(tokens) and kinds[i + 1] != "wording" else "wording"
    pattern: list[str] = []
    i = 0
    while i < len(tokens):
        first = stop = i + (tokens[i] in _ARTICLES)
        if first > i and _names_a_kind(tokens[first : first + 2], kinds[first : first + 2]):
            stop += 1
        head = ""
        while stop < len(tokens) and kinds[stop] != "wording" and not (head and kinds[stop] == "unknown"):
            head = kinds[stop] if kinds[stop] not in ("unknown", "look") else head
            stop += 1
        if head or (stop > first and (first > i or "look" in kinds[first:stop])):
            pattern.append(f"[{head or 'look'}]")
        else:
            stop = max(stop, i + 1)
            pattern += [_SAME.get(token, token) for token in tokens[i:stop]]
        i = stop
    folded = _PLACE.sub(r"\1", _AMOUNT.sub(r"\1", " ".join(pattern)))
    folded = _MORE_LOOKS.sub(r"\1\2", _LOOKS.sub(r"\1", folded))
    return _LIST.sub(r"\1", folded)


def _names_a_kind(tokens: Sequence[str], kinds: Sequence[str]) -> bool:
    """Whether the first of two words behind an article only tells the kind of the second: a face mask."""
    return kinds[:1] == ["wording"] and kinds[1:] not in ([], ["wording"]) and tokens[0] not in LEXICON["function"]
