"""The embedded captioner: collapse under one instruction, patterns that follow templates, wrong words."""

import asyncio
import re
from collections import Counter

import pytest

from mmreid_text.captioning.backends import BackendError, CaptionRequest, Procedural
from mmreid_text.captioning.backends.procedural import opening, style_of
from mmreid_text.captioning.cleaning import clean
from mmreid_text.captioning.templates import TEMPLATES, compose
from mmreid_text.procedural.attributes import ATTRIBUTES
from mmreid_text.procedural.lexicon import LEXICON

PEOPLE = 150
WORDS = {word for phrases in LEXICON.values() for phrase, _ in phrases for word in phrase.lower().split()}


def write(backend, rows, template=None, attempt=0, source="T"):
    async def run():
        return [
            (await backend.caption(CaptionRequest(f"{i:07d}.jpg", bytes, "", template, source, 0, attempt))).text
            for i in rows
        ]

    return asyncio.run(run())


def pattern(caption):
    """The caption without the words that tell of attributes."""
    words = re.findall(r"[a-z]+|[^\sa-z]", caption.lower())
    return " ".join(
        word for word in words if word not in WORDS | {"a", "an", "the", "pair", "of", "he", "she", "his", "her"}
    )


@pytest.fixture(scope="module")
def qwen():
    return Procedural(num_ids=PEOPLE)


def test_a_static_instruction_collapses_to_few_patterns(qwen):
    static = write(qwen, range(PEOPLE))
    dynamic = [write(qwen, [i], TEMPLATES[i % len(TEMPLATES)])[0] for i in range(PEOPLE)]
    begins = [{" ".join(pattern(text).split()[:2]) for text in texts} for texts in (static, dynamic)]
    assert begins[0] <= {"image is", "image has", "image shows"}
    assert len(begins[1]) > 30
    patterns = [len(set(map(pattern, texts))) for texts in (static, dynamic)]
    assert patterns[0] < 0.6 * patterns[1]


def test_captions_pass_cleaning(qwen):
    shikra = Procedural(num_ids=PEOPLE, captioner="shikra")
    for template in (None, *TEMPLATES[::7]):
        for text in write(qwen, range(20), template) + write(shikra, range(20), template):
            assert clean(text)[1] is None, text


def test_captions_follow_their_templates_opening(qwen):
    kinds = Counter(map(opening, TEMPLATES))
    assert min(kinds[kind] for kind in ("person", "thing", "scene")) >= 5
    starts = {}
    for kind in kinds:
        texts = [text for t in TEMPLATES if opening(t) == kind for text in write(qwen, range(12), t)]
        person = sum(
            bool(re.match(r"(a|an|the|one|this) (\w+ )?(man|woman|male|female|person|lady|g\w+|boy)", x, re.I))
            for x in texts
        )
        starts[kind] = person / len(texts)
    assert starts["person"] > 0.9
    assert starts["person"] > starts["scene"] + 0.4
    assert starts["person"] > starts["thing"] + 0.4


def test_captions_follow_their_templates_order(qwen):
    def first(texts):
        marks = (
            r"trousers|jeans|shorts|skirt|pants|bottoms|denims|slacks",
            r"shoes|sneakers|boots|sandals|trainers|loafers",
        )
        found = [[m.start() if (m := re.search(mark, text)) else None for mark in marks] for text in texts]
        both = [a < b for a, b in found if a is not None and b is not None]
        return sum(both) / len(both)

    assert first(write(qwen, range(PEOPLE), "[person] wears [clothing] and [footwear].")) > 0.9
    assert first(write(qwen, range(PEOPLE), "[person] wears [footwear] and [clothing].")) < 0.1


def test_one_sentence_stays_one(qwen):
    one = write(qwen, range(60), "[person] wears [clothing] and [footwear].")
    many = write(qwen, range(60), "[person] is here. The clothes are [clothing]. The shoes are [footwear].")
    count = [sum(text.count(". ") + 1 for text in texts) for texts in (one, many)]
    assert count[0] < 75 < count[1]


def test_more_templates_bring_more_patterns(qwen):
    def patterns(templates):
        return len({(style.frames, style.later, style.orders) for style in map(style_of, templates)})

    assert patterns(compose(20, 0)) <= 20 < patterns(TEMPLATES) <= len(TEMPLATES) < patterns(compose(300, 0))


def test_the_noise_rate_is_kept():
    male, female = ("man", "male", "gentleman", "guy", "boy"), ("woman", "female", "lady", "girl")
    wrong = {}
    for rate in (0.0, 0.5):
        backend = Procedural(num_ids=400, noise_rate=rate)
        told = right = 0
        for i, text in enumerate(write(backend, range(400))):
            words = set(re.findall(r"[a-z]+", text.lower()))
            sex = 0 if words & set(male) else 1 if words & set(female) else None
            if sex is not None:
                told += 1
                right += (
                    ATTRIBUTES["sex"][int(backend.world.attributes[backend.world.pid[i]][0])] == ("man", "woman")[sex]
                )
        wrong[rate] = 1 - right / told
    assert wrong[0.0] == 0
    assert 0.4 < wrong[0.5] < 0.6


def test_answers_depend_on_image_source_and_attempt_alone(qwen):
    texts = write(qwen, range(30))
    assert texts == write(Procedural(num_ids=2 * PEOPLE), range(30))
    assert texts != write(qwen, range(30), attempt=1)
    assert texts != write(qwen, range(30), source="U")


def test_strangers_are_refused(qwen):
    for name in ("person.jpg", f"{PEOPLE:07d}.jpg"):
        request = CaptionRequest(name, bytes, "", None, "T", 0, 0)
        with pytest.raises(BackendError, match=re.escape(repr(name))):
            asyncio.run(qwen.caption(request))
