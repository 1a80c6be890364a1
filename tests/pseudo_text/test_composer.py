"""Sentences of pseudo texts, read by a parser that knows the vocabulary file and English, but not the grammar."""

import itertools
import re
from functools import lru_cache

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.captioning.cleaning import clean
from mmreid_text.captioning.template_grammar import pattern_key
from mmreid_text.pseudo_text import patterns
from mmreid_text.pseudo_text.composer import Composer, image_ids
from mmreid_text.pseudo_text.patterns import compose_patterns
from mmreid_text.pseudo_text.scoring import keep
from mmreid_text.pseudo_text.vocabulary import OPTIONAL, STANDARD, load_vocabulary

CODES = dict(
    upper="U", lower="L", action="A", hair="H", bag="B", cellphone="C", glasses="G", hat="T", vehicle="V", gloves="O",
    umbrella="R", smoke="S",
)  # fmt: skip
#: Verbs of each attribute; of these the first word is finite ("wears"), or "is" and a participle.
VERBS = [
    r"(?:{wear}|{is} wearing|{is} dressed in) CLOTHES", r"{is} clad in @U(?:(?: \w+)* @L)?", r"{has} CLOTHES on",
    r"{is} @A", r"(?:{has}|{show}) @H", r"(?:{carry}|{is} carrying) @[BR]", r"{has} @B along", r"{take} @B along",
    r"(?:{hold}|{is} holding) @[CR]", r"{hold} @S", r"(?:{use}|{is} using) @C", r"(?:{wear}|{is} wearing) @[GTO]",
    r"{has} @[GO] on", r"{has} @T on (?:his|her|their) head", r"{has} @V at (?:his|her|their) side", r"{is} with @V",
    r"(?:{smoke}|{is} smoking) @S",
]  # fmt: skip
PARTICIPLES = [
    r"(?:wearing|dressed in|clad in|clothed in) CLOTHES", r"@A", r"(?:having|showing) @H", r"carrying @[BR]",
    r"taking @[BV] along", r"(?:holding|using) @C", r"holding @R", r"wearing @[GTO]",
    r"wearing @T on (?:his|her|their) head", r"smoking @S",
]  # fmt: skip
PREPOSITIONS = [
    r"in CLOTHES", r"with CLOTHES on", r"with @[HBCGVR]", r"with @[CS] in (?:his|her|their) hand", r"with @[GO] on",
    r"in @T", r"with @T on (?:his|her|their) head", r"with @V at (?:his|her|their) side", r"under @R",
]  # fmt: skip
SINGULAR = {"wear": "wears", "has": "has", "show": "shows", "carry": "carries", "take": "takes", "hold": "holds"}
SINGULAR |= {"use": "uses", "smoke": "smokes", "is": "is"}
PLURAL = {"wear": "wear", "has": "have", "show": "show", "carry": "carry", "take": "take", "hold": "hold"}
PLURAL |= {"use": "use", "smoke": "smoke", "is": "are"}
CLOTHES = r"(?:@U(?: (?:and|with|together with|along with) @L)?|@L)"


def listed(options):
    one = "(?:" + "|".join(f"(?:{option})" for option in options).replace("CLOTHES", CLOTHES) + ")"
    return f"{one}(?:(?:, {one})* and {one})?"


V1, VN = (listed([verb.format(**words) for verb in VERBS]) for words in (SINGULAR, PLURAL))
G, W = listed(PARTICIPLES), listed(PREPOSITIONS)
SCENE = r"(?:there is|this is|here is|in view is|the (?:picture|image) shows|the photo is of|the camera has caught)"
SEEING = r"(?:we see|one can see|it is)"
FIRST = re.compile(
    rf"(?:(?:{SCENE}|{SEEING}) @P(?: {W})?(?:,? {G}| who {V1})?"
    rf"|(?:in (?:the picture|this image), )?@P(?:(?:, who {V1},)|(?:,? (?:{G}|{W}),?))? {V1}"
    rf"|(?:in this image, )?@P(?: {W})? (?:is seen|is shown|can be seen|appears in the picture)"
    rf"(?:,? (?:{W}|{G}))(?:, {G})?"
    rf"|(?:{G}|{W}), @P (?:{V1}|appears in the picture))\."
)
SUBJECT = r"(?:he|she|the person|this person|the pedestrian)"
LATER = re.compile(
    "(?:"
    + "|".join(
        rf"(?:(?:in addition|besides|{G}|{W}), )?{who}(?: also|,? (?:{G}|{W}),)? {verbs}"
        rf"|{who} (?:can be|{be}) (?:seen {G}|shown {W})"
        for who, verbs, be in ((SUBJECT, V1, "is"), ("they", VN, "are"))
    )
    + r"|(?:the outfit (?:consists of|includes)|what is worn is) (?:@U(?: and @L)?|@L(?: and @U)?))\."
)


def an(phrase):
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def phrases_of_file(path):
    """Every phrase of the file with its article, and the code of its attribute."""
    content = yaml.safe_load(path.read_text())
    found = {}
    for slot, entry in content["attributes"].items():
        if slot in ("gender", "age"):
            continue
        parts = [content["lists"][name] for name in entry["product"]] if "product" in entry else [entry["classes"]]
        for words in itertools.product(*(itertools.chain(*part.values()) for part in parts)):
            text = " ".join(word for word in words if word)
            if slot == "action" or text.endswith("*"):
                found[text.strip("*")] = slot
            elif text.endswith("+"):
                found[text[:-1]] = slot
                if slot in ("lower", "glasses", "gloves"):
                    found[f"a pair of {text[:-1]}"] = slot
            else:
                found[an(text)] = slot
    people = list(itertools.chain(*content["attributes"]["gender"]["classes"].values()))
    for age in ["", *itertools.chain(*content["attributes"]["age"]["classes"].values())]:
        for person in people:
            found[an(f"{age} {person}".strip())] = "person"
    return found


class Parser:
    """Reads captions; longest phrases first, then sentences by their structure."""

    def __init__(self, path):
        self.trie = {}
        for phrase, slot in phrases_of_file(path).items():
            node = self.trie
            for word in phrase.split():
                node = node.setdefault(word, {})
            node[None] = "@" + CODES.get(slot, "P")
        self.whole = lru_cache(None)(self.is_whole)

    def fault(self, caption):
        """What is wrong with a caption, None if nothing is."""
        if not caption[0].isupper():
            return "no capital"
        if not caption.endswith(".") or caption.endswith(".."):
            return "no full stop"
        sentences = caption[:-1].split(". ")
        if not all(sentence[0].isupper() for sentence in sentences):
            return "no capital within"
        told = [self.coded(sentence[0].lower() + sentence[1:] + ".") for sentence in sentences]
        codes = [word[:2] for sentence in told for word in sentence.split() if word[0] == "@"]
        if len(set(codes)) < len(codes):
            return "an attribute twice"
        if any(not self.whole(sentence, i == 0) for i, sentence in enumerate(told)):
            return "no sentence"
        return None

    def coded(self, sentence):
        words = re.sub(r"([,.])", r" \1", sentence).split()
        if any(a == b for a, b in itertools.pairwise(words)):
            return "a word twice"
        out, at = [], 0
        while at < len(words):
            node, end, code = self.trie, at, None
            for step in range(at, len(words)):
                node = node.get(words[step])
                if node is None:
                    break
                if None in node:
                    end, code = step + 1, node[None]
            out.append(code or words[at])
            at = end if code else at + 1
        return " ".join(out).replace(" ,", ",").replace(" .", ".")

    @staticmethod
    def is_whole(sentence, first):
        return (FIRST if first else LATER).fullmatch(sentence) is not None


def drawn(vocabulary, count, optional=0.25, seed=0):
    """Random classes of images, with an optional attribute by chance, but for what is silenced."""
    rng = np.random.default_rng(seed)
    columns = []
    for attribute in vocabulary.attributes:
        classes = rng.integers(0, len(attribute.classes) - (not attribute.required), count)
        if not attribute.required:
            classes[rng.random(count) > optional] = len(attribute.classes) - 1
        columns.append(classes)
    best = np.stack(columns, axis=1)
    return keep(best, np.ones(best.shape), vocabulary)


@pytest.fixture(scope="module")
def composer():
    return Composer(load_vocabulary(), 456, seed=0)


def test_100_000_captions_are_whole_sentences(composer):
    parser = Parser(STANDARD)
    names = [f"{i}.jpg" for i in range(100_000)]
    chosen = drawn(composer.vocabulary, len(names))
    texts, numbers = composer.write(chosen, names)
    faults = [(parser.fault(text), text) for text in texts]
    assert [fault for fault in faults if fault[0]][:5] == []
    assert len(set(numbers)) == 456
    assert len(set(texts)) > 99_000
    singular = np.isin(chosen[:, 0], [0, 1])
    for text, man, plural in zip(texts[:5000], chosen[:, 0] == 0, ~singular):
        words = set(re.findall(r"\w+", text.lower()))
        wrong = {"he", "his", "she", "her", "they", "their"} - (
            {"they", "their"} if plural else {"he", "his"} if man else {"she", "her"}
        )
        assert not words & wrong, text


def test_a_child_has_no_age_and_a_dress_nothing_below(composer):
    vocabulary = composer.vocabulary
    chosen = drawn(vocabulary, 20_000, seed=5)
    texts, numbers = composer.write(chosen, [f"{i}.jpg" for i in range(len(chosen))])
    of = {a.slot: (a, chosen[:, i]) for i, a in enumerate(vocabulary.attributes)}
    child = np.array([each.name == "child" for each in of["gender"][0].classes])[of["gender"][1]]
    dress = np.array([each.parts[-1] == "dress" for each in of["upper"][0].classes])[of["upper"][1]]
    assert (0.3 < child.mean() < 0.4, 0.08 < dress.mean() < 0.1) == (True, True)
    age = re.compile(r"\b(young|youthful|middle-aged|old|elderly)\b")
    below = re.compile(r"\b(trousers|pants|jeans|shorts|skirt)\b")
    for silent, words, usual in ((child, age, 0.4), (dress, below, 0.8)):
        told = np.array([bool(words.search(text.lower())) for text in texts])
        assert not told[silent].any()
        assert told[~silent].mean() > usual
    assert all("dress" in text for text, is_dress in zip(texts, dress) if is_dress)
    assert len(set(np.array(numbers)[dress])) > 300


def test_some_pattern_must_do_without_what_is_silenced():
    vocabulary = load_vocabulary()
    for seed in range(60):  # one pattern in five names the lower clothes alone
        if not compose_patterns(1, seed, vocabulary.slots)[0].fits({"lower"}):
            break
    with pytest.raises(ValueError, match=r"templates=1 gives no pattern that does without .*lower.* take more"):
        Composer(vocabulary, 1, seed)


@pytest.mark.parametrize(
    ("caption", "fault"),
    [
        ("A man wears a red coat and.", "no sentence"),
        ("A man wears a red coat, carrying.", "no sentence"),
        ("A man in is walking.", "no sentence"),
        ("A man wears an red coat.", "no sentence"),
        ("A man wears red coat.", "no sentence"),
        ("An young man is walking.", "no sentence"),
        ("A man wear a red coat.", "no sentence"),
        ("A man wears wears a red coat.", "no sentence"),
        ("A man is walking. They wears a red coat.", "no sentence"),
        ("A man is walking. He carry a backpack.", "no sentence"),
        ("A man has short hair and has long hair.", "an attribute twice"),
        ("A man is walking. he wears a red coat.", "no capital within"),
        ("a man is walking.", "no capital"),
        ("A man is walking", "no full stop"),
        ("A man is walking. Besides, .", "no sentence"),
    ],
)
def test_the_parser_finds_faults(caption, fault):
    assert Parser(STANDARD).fault(caption) == fault


def test_captions_tell_the_classes_they_are_given_and_nothing_else(composer):
    vocabulary = composer.vocabulary
    chosen = drawn(vocabulary, 400, optional=0.4)
    texts, numbers = composer.write(chosen, [f"{i}.jpg" for i in range(400)])
    told_optional = 0
    for text, classes, number in zip(texts, chosen, numbers):
        low = text.lower()
        named = set(re.findall(r"\[(\w+)\]", str(composer.patterns[number])))
        for attribute, which in zip(vocabulary.attributes, classes):
            said = [] if which < 0 else [phrase for phrase in attribute.classes[which].said if phrase in low]
            if attribute.slot in named and which >= 0:
                assert said, (attribute.slot, text)
                told_optional += not attribute.required
            elif attribute.slot in OPTIONAL:
                others = [p for c in attribute.classes for p in c.said if re.search(rf"\b{p}\b", low)]
                assert not others, (attribute.slot, text)
    assert told_optional > 300


def test_a_caption_depends_on_seed_image_and_number_alone(composer):
    names = [f"{i}.jpg" for i in range(200)]
    chosen = drawn(composer.vocabulary, 200)
    texts, _ = composer.write(chosen, names)
    order = np.random.default_rng(1).permutation(200)
    shuffled, _ = Composer(load_vocabulary(), 456, seed=0).write(chosen[order], [names[i] for i in order])
    assert shuffled == [texts[i] for i in order]
    assert composer.write(chosen[7:8], names[7:8])[0] == texts[7:8]
    second, _ = composer.write(chosen, names, number=1)
    other, _ = Composer(load_vocabulary(), 456, seed=1).write(chosen, names)
    assert sum(a == b for a, b in zip(texts, second)) < 5
    assert sum(a == b for a, b in zip(texts, other)) < 5
    assert len(set(image_ids(names).tolist())) == 200


def test_every_pattern_and_synonym_has_its_turn(composer):
    somebody = next(row for row in drawn(composer.vocabulary, 50, optional=1.0) if (row >= 0).all())
    chosen = np.repeat(somebody[None], 20_000, axis=0)
    texts, numbers = composer.write(chosen, [f"{i}.jpg" for i in range(20_000)])
    counts = np.bincount(numbers, minlength=456)
    assert counts.min() > 10
    assert counts.max() < 100
    for attribute, which in zip(composer.vocabulary.attributes, chosen[0]):
        for phrase in attribute.classes[which].said:
            assert any(phrase in text.lower() for text in texts[:4000]), phrase


def test_patterns_are_distinct_and_continue(composer):
    texts = [str(pattern) for pattern in composer.patterns]
    assert len({pattern_key(text) for text in texts}) == 456
    slots = composer.vocabulary.slots
    assert [str(pattern) for pattern in compose_patterns(20, 0, slots)] == texts[:20]
    assert [str(pattern) for pattern in compose_patterns(20, 1, slots)] != texts[:20]
    for pattern in texts:
        named = re.findall(r"\[(\w+)\]", pattern)
        assert len(set(named)) == len(named)
        assert {"gender", "upper"} <= set(named)
    assert {slot for pattern in texts for slot in re.findall(r"\[(\w+)\]", pattern)} == set(slots)


def test_too_many_patterns_are_refused(monkeypatch):
    monkeypatch.setattr(patterns, "_IN_VAIN", 30)
    with pytest.raises(ValueError, match="templates=0 must be at least 1"):
        compose_patterns(0, 0, ("gender", "upper", "lower"))
    with pytest.raises(ValueError, match=r"templates=20,000 is more than the [\d,]+ patterns found"):
        compose_patterns(20_000, 0, ("gender", "upper", "lower"))


def test_cleaning_accepts_what_is_composed(composer):
    texts, _ = composer.write(drawn(composer.vocabulary, 3000), [f"{i}.jpg" for i in range(3000)])
    rejected = [(clean(text), text) for text in texts]
    assert [(rule, text) for (_, rule), text in rejected if rule] == []
    assert all(tidied == text for (tidied, _), text in rejected)


WORDS = st.builds("{}{}".format, st.sampled_from("aeiouxz"), st.text("bcdfgqx", min_size=2, max_size=6))


@given(
    words=st.lists(WORDS, min_size=14, max_size=14, unique=True),
    marks=st.lists(st.sampled_from(["", "+", "*"]), min_size=14, max_size=14),
    slots=st.sets(st.sampled_from(["hair", "bag", "hat", "umbrella"])),
)
@settings(max_examples=10, deadline=None)
def test_other_vocabularies_compose_too(tmp_path_factory, words, marks, slots):
    names = [f"{word}{mark}" for word, mark in zip(words, marks)]
    attributes = {
        "gender": {"classes": {"one": words[:1], "two": words[1:2]}},
        "upper": {"classes": {"one": names[2:3], "two": names[3:4]}},
        "lower": {"classes": {"one": names[4:5], "two": names[5:6]}},
    }
    for i, slot in enumerate(sorted(slots)):
        entry = {"classes": {"one": names[6 + i : 7 + i], "two": names[10 + i : 11 + i]}}
        attributes[slot] = entry | ({"none": "nothing there"} if slot in OPTIONAL else {})
    path = tmp_path_factory.mktemp("vocabulary") / "mine.yaml"
    content = {"prompt": "{} here", "pronouns": {"one": ["he", "his"], "two": ["they", "their"]}}
    path.write_text(yaml.safe_dump(content | {"attributes": attributes}))
    vocabulary = load_vocabulary(path)
    composer = Composer(vocabulary, 30, seed=3)
    texts, _ = composer.write(drawn(vocabulary, 100, 0.5), [str(i) for i in range(100)])
    for text in texts:
        assert re.fullmatch(r"[A-Z][A-Za-z0-9 ,]*\.( [A-Z][A-Za-z0-9 ,]*\.)*", text), text
        assert not re.search(r"  | ,|, ?\.|(and|with|wears|in) ?[.,]|\b(\w+) \1\b", text), text
