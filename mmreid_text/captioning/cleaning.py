"""Cleaning of what a captioner answers: tidy first, then named rules that reject, counted and sampled."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import ftfy

from mmreid_text.captioning.foreign_words import ENGLISH, FOREIGN


@dataclass(frozen=True)
class CleaningContext:
    """What a caption is judged against.

    Attributes:
        instruction: Text that the captioner was given, its ``{template}`` not filled in; '' if unknown.
        min_words: Fewest words of a caption.
        max_words: Most words of a caption. CLIP reads 77 tokens, about 60 words; what is beyond is lost in training.

    Raises:
        ValueError: ``min_words`` is negative or above ``max_words``.
    """

    instruction: str = ""
    min_words: int = 3
    max_words: int = 120

    def __post_init__(self) -> None:
        if not 0 <= self.min_words <= self.max_words:
            raise ValueError(f"min_words={self.min_words} and max_words={self.max_words}: 0 <= min <= max must hold")


@dataclass(frozen=True)
class Rule:
    """One reason to reject a caption.

    Attributes:
        name: Of the rule.
        about: What it rejects, for reports.
        breaks: Whether a tidied caption breaks it.
    """

    name: str
    about: str
    breaks: Callable[[str, CleaningContext], bool]


_FOREIGN = frozenset().union(*FOREIGN.values())
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u2064\ufeff\ufffd]")
_LABEL = re.compile(
    r"^[*_#>\s]*(?:(?:the |image |person |final )?(?:description|caption|answer|output|response|assistant))"
    r"[*_\s]*:[*_\s]*",
    re.IGNORECASE,
)
_OPENER = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|absolutely)\b[,.! ]*)?"
    r"here(?:'s| is| are)? (?:a |an |the |my |your )?(?:\w+ ){0,3}(?:description|caption)s?\b[^:.!?]{0,100}:\s*",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_OPEN_SLOT = re.compile(r"[][{}]|\((?:clothing|footwear|hair|accessory|belongings)\)", re.IGNORECASE)
_MARKUP = re.compile(
    r"[<>`*\\]|__|https?://|www\.|&#?\w{2,8};|\|[^|]*\|"
    r"|(?:^|\s)#{1,6}\s|(?:^|[.:;,]\s)[-\u2022\u2013\u2014]\s|(?:^|\s)1[.)]\s.{0,300}\s2[.)]\s"
)
_ASSISTANT = re.compile(
    r"\bas an? (?:ai|artificial|large|language|multi-?modal|virtual|text-based|vision)\b"
    r"|\b(?:ai|language|vision) (?:language )?(?:model|assistant|chatbot)\b|\bmy (?:training|knowledge|programming)\b"
    r"|\bi (?:am|was|'m) (?:trained|programmed|designed)\b|\b(?:openai|chatgpt|alibaba cloud|qwen|shikra|llava)\b"
    r"|\b(?:user|assistant):\s",
    re.IGNORECASE,
)
_DOING = (
    r"(?:assist|help|provide|identify|describe|comply|answer|see|view|fulfil|process|access|determine|generate"
    r"|recogni[sz]e|comment|tell|make out|discern|continue|give|offer|confirm)"
)
_REFUSAL = re.compile(
    r"\b(?:i'm|i am|we are|we're) (?:\w+ )?(?:sorry|afraid)\b|^sorry\b|\bi apologi[sz]e\b|\bmy apologies\b"
    rf"|\b(?:i|we) (?:can't|can ?not|won't|will not|couldn't|could not|don't|do not) (?:\w+ )?{_DOING}"
    rf"|\b(?:i'm|i am|we are|we're) (?:unable|not able|not allowed) to\b|(?:^|[.!] )unable to {_DOING}"
    r"|\bagainst (?:my|the|our) (?:\w+ )?(?:policy|policies|guidelines)\b"
    r"|\bit (?:is|'s) (?:not possible|impossible) to (?:describe|identify|provide|tell)\b",
    re.IGNORECASE,
)
_INSTRUCTED = re.compile(
    r"\bdo not (?:imagine|guess)\b|\bif (?:any|some) (?:attribute|requirement)s?\b|\bin a style similar\b"
    r"|\b(?:the|this|given|following) (?:template|instruction|sentence pattern)s?\b"
    r"|\b(?:write|generate) a description\b|\byou can ignore\b",
    re.IGNORECASE,
)
_BOILERPLATE = re.compile(
    r"\b(?:screenshots?|screen shots?|watermark(?:s|ed)?|screen recording|shutterstock|getty images)\b"
    r"|\b(?:you|the user)(?:'ve| have| has)? (?:provided|uploaded|shared|sent|attached)\b"
    r"|\b(?:no|not any) (?!other\b)(?:\w+ )?(?:person|people|pedestrian|human|individual)s? (?:\w+ ){0,2}"
    r"(?:visible|seen|present|shown|in (?:the|this) (?:image|picture|photo))\b"
    r"|\bno (?:image|picture|photo) (?:is|was|has been|attached|provided|uploaded)\b"
    r"|\b(?:image|picture|photo) does(?: not|n't) (?:contain|show|include|depict)"
    r" (?:(?:an?|any) (?:\w+ )?)?(?:person|people|pedestrian|human|individual|anyone|anybody)s?\b"
    r"|\b(?:image|picture|photo) is (?:completely |entirely |all )(?:black|white|dark|blank|blurry|blurred)\b"
    r"|\b(?:image|picture|photo|resolution|quality) (?:\w+ )?is too (?:[\w-]+ ){1,4}to (?:\w+ )?"
    r"(?:describe|provide|give|make out any)\b"
    r"|\bit(?: is|'s) (?:too |very )?(?:difficult|hard) to (?:\w+ )?(?:describe|provide|give)\b"
    r"|^unfortunately\b|(?<![a-z] )\bnote:|\bn/a\b"
    r"|\b(?:let me know|feel free to|hope (?:this|that) helps|please note that|further assistance)\b"
    r"|\bplease (?:provide|upload|attach)\b"
    r"|\bhere(?:'s| is) (?:a|the|my) (?:\w+ )?(?:description|caption)\b|^(?:sure|certainly|of course|absolutely)[!,.]"
    r"|\bi (?:will|'ll) (?:now )?describe\b",
    re.IGNORECASE,
)


_SENTENCE_END = re.compile(r"[.!;]+(?:\s|$)")
_IN_A_ROW = re.compile(r"(?:^| )(\S+(?: \S+){0,2}) \1 \1(?: |$)")


def tidy(caption: str) -> str:
    """The caption without what stands around it: broken characters, white space, labels, opening phrases, quotes.

    Applied twice it changes nothing more.

    >>> tidy('Description: "A man  in a red coat."')
    'A man in a red coat.'
    """
    text = caption
    while True:
        before = text
        text = " ".join(text.split())
        if not (text.isascii() and text.isprintable()) or "&" in text:
            text = " ".join(_INVISIBLE.sub("", ftfy.fix_text(text)).split())
        text = _OPENER.sub("", _LABEL.sub("", text, count=1), count=1)
        if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and not set(text[1:-1]) & {text[0], text[-1]}:
            text = text[1:-1]
        if text == before:
            return text


def clean(caption: str, context: CleaningContext | None = None) -> tuple[str, str | None]:
    """Tidy a caption and look for the first rule that it breaks.

    Args:
        caption: What the captioner answered.
        context: What to judge it against; None takes the defaults.

    Returns:
        The tidied caption, and the name of the rule of :data:`RULES` that rejects it, or None.

    >>> clean("A man in [clothing].")
    ('A man in [clothing].', 'brackets')
    """
    context = context or CleaningContext()
    text = tidy(caption)
    return text, next((rule.name for rule in RULES.values() if rule.breaks(text, context)), None)


@lru_cache(maxsize=2)  # one rule after the other asks for the same caption
def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _matches(pattern: re.Pattern[str]) -> Callable[[str, CleaningContext], bool]:
    return lambda text, context: pattern.search(text) is not None


def _repeats_instruction(text: str, context: CleaningContext) -> bool:
    if _INSTRUCTED.search(text):
        return True
    words = _words(text)
    asked = _shingles(context.instruction)
    return any(tuple(words[i : i + _SHINGLE]) in asked for i in range(len(words) - _SHINGLE + 1))


_SHINGLE = 10


@lru_cache(maxsize=64)
def _shingles(instruction: str) -> frozenset[tuple[str, ...]]:
    shingles = set()
    for part in instruction.split("{template}"):
        words = _words(part)
        shingles |= {tuple(words[i : i + _SHINGLE]) for i in range(len(words) - _SHINGLE + 1)}
    return frozenset(shingles)


def _not_english(text: str, context: CleaningContext) -> bool:
    """More than a tenth of the letters is not Latin, or another language's function words outnumber the English."""
    if not text.isascii():
        letters = [character for character in text if character.isalpha()]
        foreign = sum(not unicodedata.name(c, "LATIN").startswith("LATIN") for c in letters if c > "\u024f")
        if foreign > 0.1 * len(letters):
            return True
    words = _words(text)
    if sum(word in _FOREIGN for word in words) < 2:
        return False
    english = sum(word in ENGLISH for word in words)
    return any(sum(word in own for word in words) > max(english, 1) for own in FOREIGN.values())


def _loops(text: str, context: CleaningContext) -> bool:
    """One to three words three times in a row, a sentence twice, or one of its runs of words again and again."""
    sentences = [sentence.split() for sentence in _SENTENCE_END.split(text.lower())]
    told = [tuple(sentence) for sentence in sentences if len(sentence) > 3]
    if len(set(told)) < len(told):
        return True
    words = _words(text)
    if _IN_A_ROW.search(" ".join(words)):
        return True
    return any(_most_frequent(words, n) > most for n, most in ((4, 3), (6, 2)))


def _most_frequent(words: list[str], n: int) -> int:
    """How often the most frequent run of ``n`` words comes."""
    runs = list(zip(*(words[i:] for i in range(n))))
    if len(set(runs)) == len(runs):
        return min(len(runs), 1)
    return max(Counter(runs).values())


#: In the order in which they are looked at; a caption is rejected by the first that it breaks.
RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("empty", "no words", lambda text, context: not _WORD.search(text)),
        Rule("brackets", "slots of the template left open: brackets, (clothing)", _matches(_OPEN_SLOT)),
        Rule("markup", "HTML, Markdown, lists, code, links, control tokens", _matches(_MARKUP)),
        Rule("assistant", "the model speaks of itself", _matches(_ASSISTANT)),
        Rule("refusal", "the model refuses or apologises", _matches(_REFUSAL)),
        Rule("instruction", "repeats the instruction", _repeats_instruction),
        Rule("question", "asks something", _matches(re.compile(r"[?\uff1f]"))),
        Rule("boilerplate", "screenshots, watermarks, nothing to be seen, talk to the user", _matches(_BOILERPLATE)),
        Rule("language", "not English", _not_english),
        Rule("short", "fewer words than min_words", lambda text, context: len(_words(text)) < context.min_words),
        Rule("long", "more words than max_words", lambda text, context: len(_words(text)) > context.max_words),
        Rule("loop", "the same words again and again", _loops),
    )
}
#: The rule over a set of captions, see :class:`~mmreid_text.captioning.cleaning_report.RepeatCounter`.
REPEATED = "repeated"
