"""The grammar of captions: what is stated, what is wrong, agreement, patterns, lengths."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets.transforms.tokenizer import get_tokenizer
from mmreid_text.procedural import ATTRIBUTES, DOMAINS, Caption, World
from mmreid_text.procedural.attributes import INDEX, NAMES, NUM_VALUES
from mmreid_text.procedural.grammar import Piece, Style, join
from mmreid_text.procedural.lexicon import LEXICON, OWN_WORDS
from mmreid_text.procedural.sentences import NUM_DRAWS, STYLES, describe

AUTHORS = [(domain, style) for (domain, _), styles in STYLES.items() for style in styles]
PRONOUNS = {"he", "she", "his", "her", "him"}
DRAW = st.integers(0, 2**53 - 1).map(lambda n: n * 2.0**-53)


@pytest.fixture(scope="module")
def captions() -> dict[str, list[tuple[str, Caption, np.ndarray]]]:
    """Source, caption and true codes of some hundred images of every domain."""
    told = {}
    for domain in DOMAINS:
        world = World(domain, 500, images_per_id=1, seed=3)
        sources = world.domain.caption_sources
        told[domain] = [
            (source, caption, world.attributes[i])
            for i in range(len(world))
            for source, caption in zip(sources, world.captions(i))
        ]
    return told


def phrases(style: str, name: str, value: str) -> set[str]:
    own = [OWN_WORDS[s].get((name, value), ()) for s in OWN_WORDS if style in (s, "web")]
    return {phrase for group in (LEXICON[name, value], *own) for phrase, _ in group}


def check(caption: Caption, codes: np.ndarray, style: str) -> None:
    """Everything that holds for one caption."""
    text = caption.text
    assert text.isascii()
    assert text == text.strip()
    assert not re.search(r"  | [,.;:)]|,[,.;]|\( |[{}~]|\b(\w+) \1\b", text), text
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text, re.IGNORECASE), text
    stated = set()
    for start, end, column in caption.words:
        name, value = NAMES[column], ATTRIBUTES[NAMES[column]][caption.mentioned[column]]
        word = text[start:end].lower()
        if word in PRONOUNS:
            assert name == "sex"
            assert (word in ("she", "her")) == (value == "woman")
        else:
            assert word in {p.lower() for p in phrases(style, name, value)}, (text, word, name, value)
        assert not text[start - 1 : start].isalnum(), "a span is whole words"
        assert not text[end : end + 1].isalnum(), "a span is whole words"
        stated.add(column)
    assert stated == set(np.flatnonzero(caption.mentioned >= 0))
    assert stated, text
    wrong = [(start, end) for start, end, column in caption.words if caption.mentioned[column] != codes[column]]
    assert caption.wrong == wrong
    for (_, end, _), (start, _, _) in zip(caption.words, caption.words[1:]):
        assert end <= start


@settings(max_examples=150, deadline=None)
@given(
    author=st.sampled_from(AUTHORS),
    codes=st.tuples(*(st.integers(-1, n - 1) for n in NUM_VALUES)),
    visible=st.lists(st.booleans(), min_size=len(NAMES), max_size=len(NAMES)),
    draws=st.lists(DRAW, min_size=NUM_DRAWS, max_size=NUM_DRAWS),
    errors=st.lists(DRAW, min_size=2 * len(NAMES), max_size=2 * len(NAMES)),
    noise_rate=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_any_person_in_any_style(
    author: tuple[str, Style], codes: tuple[int, ...], visible: list[bool], draws: list[float], errors: list[float],
    noise_rate: float,
) -> None:  # fmt: skip
    domain, style = author
    known = list(codes)
    for name in ("sex", "upper", "upper_color"):  # what everyone has and every picture shows
        known[INDEX[name]] = max(known[INDEX[name]], 0)
        visible[INDEX[name]] = True
    caption = describe(style, known, visible, draws, errors, noise_rate)
    check(caption, np.array(known), domain)
    if noise_rate == 0:
        assert not caption.wrong
        assert all(visible[column] for _, _, column in caption.words)
    if noise_rate == 1:
        assert len(caption.wrong) == len(caption.words)


@pytest.mark.parametrize("domain", DOMAINS)
def test_captions_of_a_world(domain: str, captions: dict) -> None:
    for _, caption, codes in captions[domain]:
        check(caption, codes, domain)
        if domain != "source":
            assert not caption.wrong
        if domain != "web":
            assert caption.text[0].isupper()
            assert caption.text.endswith(".")


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_words_are_wrong_at_the_set_rate(rate: float) -> None:
    world = World("source", 400, noise_rate=rate, seed=7)
    right = wrong = 0
    for index in range(len(world)):
        for caption in world.captions(index):
            mentioned = caption.mentioned >= 0
            is_wrong = caption.mentioned[mentioned] != world.attributes[index][mentioned]
            wrong, right = wrong + is_wrong.sum(), right + (~is_wrong).sum()
    total = wrong + right
    # Five standard deviations, and half a point for hair colours that vanish when a head is taken for bald.
    assert abs(wrong / total - rate) < 5 * np.sqrt(rate * (1 - rate) / total) + 0.005


def test_noise_keeps_the_sentence_pattern() -> None:
    clean, noisy = World("source", 60, noise_rate=0.0), World("source", 60, noise_rate=0.2)
    told = [(a, b) for i in range(60) for a, b in zip(clean.captions(i), noisy.captions(i))]
    assert all(a.text == b.text for a, b in told if not b.wrong)
    assert sum(bool(b.wrong) for _, b in told) > 100


def pattern(caption: Caption) -> str:
    """A caption without its attribute words."""
    text, at = "", 0
    for start, end, _ in caption.words:
        text += caption.text[at:start].lower() + "#"
        at = end
    return re.sub(r"\ban? #", "a #", text + caption.text[at:].lower())


def test_domains_share_no_sentence(captions: dict) -> None:
    told = {d: {s for _, c, _ in rows for s in re.split(r"(?<=[.]) ", pattern(c))} for d, rows in captions.items()}
    names = sorted(told)
    for i, one in enumerate(names):
        for other in names[:i]:
            assert not told[one] & told[other]


def test_dynamic_captions_come_in_thousands_of_patterns_and_static_ones_in_few(captions: dict) -> None:
    count = {}
    for source in DOMAINS["source"].caption_sources:
        told = [pattern(caption) for s, caption, _ in captions["source"] if s == source]
        count[source] = len(set(told)) / len(told)
    assert min(count["Td-qwen"], count["Td-shikra"]) > 0.95
    assert max(count["Ts-qwen"], count["Ts-shikra"]) < 0.5
    for domain in ("street", "mall", "station"):
        assert len({pattern(caption) for _, caption, _ in captions[domain]}) > 0.75 * len(captions[domain])


def test_target_words_are_mostly_words_of_the_source() -> None:
    for style, own in OWN_WORDS.items():
        assert all(not {p for p, _ in words} & {p for p, _ in LEXICON[key]} for key, words in own.items()), style
        assert len(own) <= 5


def test_a_phrase_belongs_to_one_value() -> None:
    for name, values in ATTRIBUTES.items():
        seen: dict[str, str] = {}
        for value in values:
            extra = [words.get((name, value), ()) for words in OWN_WORDS.values()]
            for phrase, _ in [*LEXICON[name, value], *(p for group in extra for p in group)]:
                assert seen.setdefault(phrase, value) == value


def test_captions_fit_the_context(captions: dict) -> None:
    tokenizer = get_tokenizer()
    for domain, rows in captions.items():
        length = (tokenizer([caption.text for _, caption, _ in rows], max_length=200) > 0).sum(axis=1)
        assert length.max() <= 77, domain
        if domain != "web":
            assert 20 <= np.median(length) <= 45
    web = (tokenizer([caption.text for _, caption, _ in captions["web"]]) > 0).sum(axis=1)
    assert np.median(web) < 22


def test_web_tells_one_to_nine_attributes(captions: dict) -> None:
    counts = [(caption.mentioned >= 0).sum() for _, caption, _ in captions["web"]]
    assert min(counts) >= 1
    assert max(counts) <= 9
    assert np.mean(counts) < 6.5


def test_joining() -> None:
    pieces = [Piece("~a"), Piece("orange", 6), Piece("top,"), Piece("a bit large,"), Piece("."), Piece("he", 0)]
    text, words = join(pieces, capital=True)
    assert text == "An orange top, a bit large. He"
    assert words == [(3, 9, 6), (28, 30, 0)]
