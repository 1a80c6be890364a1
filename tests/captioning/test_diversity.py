"""Diversity figures against counting by hand and a plain BLEU; patterns of procedural captions; the report."""

import importlib.util
import json
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from held_out_sentences import held_out
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmreid_text.captioning.attribute_words import slot_of
from mmreid_text.captioning.diversity import (
    COVERAGE,
    Diversity,
    distinct_ngrams,
    entropy,
    measure,
    measure_table,
    self_bleu,
)
from mmreid_text.captioning.patterns import pattern_of, tokens_of
from mmreid_text.captioning.templates import TEMPLATES, compose
from mmreid_text.datasets.caption_table import CaptionTable, write_caption_table
from mmreid_text.evaluation.word_classes import LEXICON
from mmreid_text.procedural.attributes import INDEX, NUM_ATTRIBUTES, NUM_VALUES, code
from mmreid_text.procedural.domains import World
from mmreid_text.procedural.lexicon import LEXICON as PHRASES
from mmreid_text.procedural.sentences import NUM_DRAWS, STYLES, describe
from mmreid_text.visualization.curves import COLOURS

WORDS = ("a", "man", "in", "red", "coat", "and", "jeans")
CAPTIONS = st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), min_size=2, max_size=7)


def ngrams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def plain_bleu(words, references):
    """BLEU-4 with smoothing by 0.1 matches, one caption and one reference at a time."""
    logs = 0.0
    for n in range(1, 5):
        own = Counter(ngrams(words, n))
        best = Counter()
        for reference in references:
            best |= Counter(ngrams(reference, n))
        matched = sum(min(count, best[gram]) for gram, count in own.items())
        if n == 1 and not matched:
            return 0.0
        logs += math.log((matched or 0.1) / max(sum(own.values()), 1)) / 4
    closest = min((abs(len(reference) - len(words)), len(reference)) for reference in references)[1]
    return math.exp(logs) * (1.0 if len(words) >= closest else math.exp(1 - closest / len(words)))


@settings(max_examples=150, deadline=None)
@given(CAPTIONS)
def test_self_bleu_is_bleu_against_the_others(captions):
    words = [caption.split() for caption in captions]
    scores = [plain_bleu(own, words[:i] + words[i + 1 :]) for i, own in enumerate(words)]
    assert self_bleu(captions) == pytest.approx(np.mean(scores), abs=1e-12)


def test_self_bleu_bounds():
    assert self_bleu(["A man in a red coat."] * 3) == 1.0
    assert self_bleu(["one two three four", "five six seven eight"]) == 0.0
    with pytest.raises(ValueError, match="at least two captions, got 1"):
        self_bleu(["A man."])


@settings(max_examples=100, deadline=None)
@given(CAPTIONS)
def test_distinct_ngrams_are_counted(captions):
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    words = [caption.split() for caption in captions]
    ids = np.array([vocabulary[word] for caption in words for word in caption], dtype=np.int64)
    got = distinct_ngrams(ids, np.array([len(caption) for caption in words]))
    for n, share in enumerate(got, 1):
        grams = [gram for caption in words for gram in ngrams(caption, n)]
        assert share == pytest.approx(len(set(grams)) / len(grams) if grams else 0.0)


def test_measure_by_hand():
    captions = ["A man in a red coat."] * 3 + ["She wears jeans, boots and a blue cap.", "Nobody, 2 words!"]
    one = measure(iter(captions), 5, sample=5, bleu_sample=5)
    assert one.words == (pytest.approx((3 * 6 + 8 + 3) / 5), pytest.approx(np.std([6, 6, 6, 8, 3])))
    assert [one.words_at(p) for p in (1, 20, 50, 80, 81, 100)] == [3, 3, 6, 6, 8, 8]
    assert one.coverage == {
        "gender": 0.8, "footwear": 0.2, "hair": 0.0, "accessory": 0.2, "belongings": 0.0, "clothing": 0.8,
        "colour": 0.8,
    }  # fmt: skip
    assert one.pattern_entropy == pytest.approx(-(0.6 * math.log2(0.6) + 0.4 * math.log2(0.2)))
    assert one.entropy_bound == pytest.approx(math.log2(5))
    assert one.top_share == 0.6
    assert one.top_patterns[0] == ("[person] in [clothing] .", 3)
    assert one.opening_entropy == one.pattern_entropy
    assert one.distinct[0] == pytest.approx(15 / 29)
    assert one.distinct[3] == pytest.approx((3 + 5) / (9 + 5))
    assert entropy(np.array([7])) == 0.0


def test_measure_samples():
    captions = [f"A man in coat {i}" + " or hat" * (i % 3) for i in range(500)]
    small, again, other = (measure(captions, 500, sample=40, bleu_sample=10, seed=seed) for seed in (0, 0, 1))
    assert (small.sampled, small.bleu_sampled, small.captions) == (40, 10, 500)
    assert small.lengths.sum() == 500
    assert small.distinct == again.distinct
    assert small.self_bleu == again.self_bleu
    assert small.distinct != other.distinct
    for wrong in (499, 501):
        with pytest.raises(ValueError, match=f"{wrong} captions were announced"):
            measure(captions, wrong)
    with pytest.raises(ValueError, match="must be at least 2"):
        measure(["A man."], 1)


@pytest.mark.parametrize("name", ["upper_color", "lower_color", "upper", "shoes", "hat", "upper_pattern"])
def test_what_is_worn_does_not_change_the_pattern(name):
    """The same sentence about other colours, kinds and patterns."""
    rng = np.random.default_rng(0)
    (style,) = STYLES["source", "Td-qwen"]
    for _ in range(60):
        codes = [int(rng.integers(values)) for values in NUM_VALUES]
        codes[INDEX["hat"]], codes[INDEX["inner"]] = 1, -1
        codes[INDEX["bag"]], codes[INDEX["lower"]] = code("bag", "backpack"), code("lower", "trousers")
        codes[INDEX["upper_pattern"]] = 1
        draws, errors = rng.random(NUM_DRAWS).tolist(), [1.0] * (2 * NUM_ATTRIBUTES)
        patterns = set()
        for value in range(1, NUM_VALUES[INDEX[name]]):
            codes[INDEX[name]] = value
            patterns.add(pattern_of(describe(style, codes, [True] * NUM_ATTRIBUTES, draws, errors, 0.0).text))
        assert len(patterns) == 1


def test_every_procedural_word_is_abstracted():
    for (name, value), phrases in PHRASES.items():
        for phrase, _ in phrases:
            if value == "none":
                continue
            noun = {"hair_style": "hair", "sex": ""}.get(name, "")
            known = [slot_of(word) for word in tokens_of(f"{phrase} {noun}")]
            assert all(known), (name, phrase)


def test_nouns_of_the_other_lexicon_have_slots():
    """Bodies, scenery and talk about the picture are the wording; all other nouns are attributes."""
    wording = """
        arm back background body bottom building calf camera can car chest corridor crosswalk direction door ear
        elbow eye eyebrow face feet fence file finger floor foot forehead ground head hip image ledge leg lip mouth neck
        nose object path pavement photo picture pose road shadow side sidewalk sign skin stair step stomach street
        tattoo tile toe torso tree view wall way word wrist
    """
    assert {word for word in LEXICON["noun"] if slot_of(word) is None} == set(wording.split())


@pytest.mark.parametrize(
    ("caption", "pattern"),
    [
        ("He has short hair, and his jeans are blue.", "they has [hair] , and [clothing] is [look] ."),
        ("She has long hair, and her skirt is red!", "they has [hair] , and [clothing] is [look] !"),
        ("A bald head and a hand bag in his hand.", "[hair] and [belongings] ."),
        ("A shirt that is red over a white top", "[clothing]"),
        ("Long hair tied up in a bun and a scarf around her neck", "[hair] and [accessory]"),
        ("A teenage boy with a face mask and a cup of coffee", "[person] with [accessory] and [belongings]"),
        ("The picture shows a flurbish man who walks.", "the picture shows [person] who walks ."),
        ("A coat gromps the man.", "[clothing] gromps [person] ."),
        ("Running shoes; a man running.", "[footwear] ; [person] running ."),
        ("A coat, a shirt, and a tie.", "[clothing] , and [accessory] ."),
        ("Knee-length skirts", "[clothing]"),
        ("", ""),
    ],
)
def test_patterns(caption, pattern):
    assert pattern_of(caption) == pattern


def captions_of(domain, source, images=400):
    world = World(domain, images, 1, 5, 0.2, (64, 32), "train")
    place = world.domain.caption_sources.index(source)
    return [world.captions(i)[place].text for i in range(images)]


def test_entropy_follows_the_true_patterns():
    """Fillings that the lists were not made for add some wording of their own; who has more patterns still has more."""
    truths, found = [], []
    for templates in (TEMPLATES[:3], TEMPLATES, compose(250, seed=0)):
        captions, own = held_out(templates, 3000)
        truths.append(entropy(np.unique(own, return_counts=True)[1]))
        found.append(measure(captions, 3000, 3000, 100).pattern_entropy)
    assert all(truth < got < truth + 4.5 for truth, got in zip(truths, found))
    assert found[1] - found[0] > 0.7 * (truths[1] - truths[0])
    assert found[2] - found[1] > 0.5 * (truths[2] - truths[1])


def test_dynamic_captions_are_more_diverse_than_static_ones():
    static, dynamic = (measure(captions_of("source", s), 400, 400, 200) for s in ("Ts-qwen", "Td-qwen"))
    assert static.pattern_entropy < 6.5
    assert dynamic.pattern_entropy > 8.5
    assert static.opening_entropy + 3 < dynamic.opening_entropy
    assert static.self_bleu > dynamic.self_bleu + 0.1
    assert all(low < high for low, high in zip(static.distinct, dynamic.distinct))
    assert static.top_share > 5 * dynamic.top_share


def table_columns(sources, images=60):
    rows = {"image": [], "caption": [], "pid": [], "image_id": [], "source": []}
    texts = {source: captions_of("source", source, images) for source in sources}
    for i in range(images):
        for source in sources:
            for key, value in zip(rows, (f"{i:03d}.jpg", texts[source][i], i, i, source)):
                rows[key].append(value)
    return rows


def test_measure_table():
    table = CaptionTable.from_columns(table_columns(["Ts-qwen", "Td-qwen"]), name="two")
    sources = measure_table(table, sample=50, bleu_sample=20)
    assert set(sources) == {"Td-qwen", "Ts-qwen", "all"}
    assert [one.captions for one in sources.values()] == [60, 60, 120]
    own = measure(captions_of("source", "Ts-qwen", 60), 60, sample=50, bleu_sample=20)
    assert sources["Ts-qwen"].self_bleu == own.self_bleu
    assert sources["Ts-qwen"].top_patterns == own.top_patterns
    assert set(measure_table(table.filter_sources(["Ts-qwen"]), 50, 20)) == {"Ts-qwen"}


@pytest.fixture
def report(tmp_path, monkeypatch, capsys):
    """The tool's main function; returns what it printed."""
    path = Path(__file__).parents[2] / "tools/caption_report.py"
    spec = importlib.util.spec_from_file_location("caption_report", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def main(*options):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["caption_report.py", *options])
        tool.main()
        return capsys.readouterr().out

    return main


def test_report_of_two_tables(tmp_path, report):
    write_caption_table(tmp_path / "static.arrow", [table_columns(["Ts-qwen"], 30)], "s", sources=["Ts-qwen"])
    both = ["Td-qwen", "Ts-qwen"]
    write_caption_table(tmp_path / "both.arrow", [table_columns(both, 50)], "b", sources=both)
    printed = report("static.arrow", "both.arrow", "--out", "out", "--min-words", "25")
    assert "are of 30 captions of each row" in printed
    assert (tmp_path / "out/diversity.md").read_text() in printed
    facts = json.loads((tmp_path / "out/diversity.json").read_text())
    assert {name: set(sources) for name, sources in facts["sets"].items()} == {
        "static": {"Ts-qwen"},
        "both": {"Ts-qwen", "Td-qwen", "all"},
    }
    assert {one["sampled"] for sources in facts["sets"].values() for one in sources.values()} == {30}
    ts = facts["sets"]["static"]["Ts-qwen"]
    assert f"| static | Ts-qwen | 30 | {ts['words']['mean']:.1f} ± {ts['words']['sd']:.1f} |" in printed
    assert f"| {ts['pattern_entropy_bits']:.2f} |" in printed
    assert ts["coverage"].keys() == set(COVERAGE)
    short = facts["cleaning"]["static"]["rules"]["short"]
    assert short["count"] == sum(len(text.split()) < 25 for text in captions_of("source", "Ts-qwen", 30))
    assert 0 < len(short["samples"]) <= short["count"]
    picture = np.asarray(Image.open(tmp_path / "out/diversity.png").convert("RGB"))
    for colour in (*COLOURS[:2], "#000000"):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        columns = np.flatnonzero((picture == rgb).all(-1).any(0))
        assert len(columns) > 50
    assert report("static.arrow", "--out", "out2", "--sample", "20").count("20 captions of each row") == 1


def test_report_refuses_in_one_line(tmp_path, report):
    with pytest.raises(SystemExit, match=r"error: Caption table .*none\.arrow does not exist"):
        report("none.arrow")
    write_caption_table(tmp_path / "one.arrow", [table_columns(["Ts-qwen"], 1)], "s", sources=["Ts-qwen"])
    with pytest.raises(SystemExit, match="error: 1 captions, sample=1, bleu_sample=1: each must be at least 2"):
        report("one.arrow")
    with pytest.raises(SystemExit, match=r"error: .*has no split 'test'"):
        report("one.arrow", "--split", "test")


def test_diversity_holds_plain_values():
    one = measure(["A man.", "A woman in red."], 2)
    assert isinstance(one, Diversity)
    assert all(type(v) is float for v in (one.self_bleu, one.pattern_entropy, one.top_share, *one.words, *one.distinct))
