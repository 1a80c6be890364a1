# ruff: noqa: RUF001
"""ClipTokenizer against open_clip's own re-implementation of OpenAI's tokenizer, and the Tokenize transform."""

import html
import pickle
import unicodedata
from functools import cache

import ftfy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets.transforms import tokenizer as module
from mmreid_text.datasets.transforms.text import Tokenize
from mmreid_text.datasets.transforms.tokenizer import EOT, MASK, SOT, VOCAB, clean_text, get_tokenizer

SPECIAL_NAMES = ("start_of_text", "end_of_text", "ſtart_of_text")

anything = st.text(st.characters(exclude_categories=("Cn", "Co")), max_size=60)
WORDS = """
    a man's woman wears it's they're we've I'm he'll she'd 'S 'RE jekyll Hyde back-pack t-shirt #1 42 3.5 ½ Ⅷ don’t
    “black” naïve CAFÉ İstanbul ΣΊΣΥΦΟΣ ﬁne ſhoe it'ſ 上衣 红色的 जैकेट кофта 👟 🧥 &amp; &lt;b&gt; &amp;#39; Ã© â€™ _ -
    ... !? </w> <|mask|>
"""
ODD = ["\u00a0", "\u3000", "\u0345", "e\u0301", "\u200b", "\ufeff", "\n", "\t", "\r\n", "\x1b[31m", "\x0c", "\ud83d"]
words = st.lists(st.sampled_from(WORDS.split() + ODD), max_size=25).map(" ".join)
glued = st.lists(st.sampled_from(["'", "s", "S", "re", "l", "l", "&", "amp;", "#39;", "<", " ", "1", "é", "."])).map(
    "".join
)


@pytest.fixture(scope="module")
def theirs():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def comparable(clean):
    """Whether the sentence has no name of a special token, which open_clip obeys, and no character that Unicode has
    not assigned yet: those become letters with the version of the splitting library."""
    return not any(name in clean for name in SPECIAL_NAMES) and all(unicodedata.category(c) != "Cn" for c in clean)


@cache
def jekyll(theirs):
    return [theirs.encoder[part] for part in max(theirs.bpe_ranks, key=theirs.bpe_ranks.get)]


def expected(theirs, sentence, max_length=77):
    """Ids by open_clip, with the dropped entry spelt by the parts that its merge joins."""
    ids = [part for i in theirs.encode(sentence) for part in (jekyll(theirs) if i == MASK else [i])][: max_length - 2]
    return [SOT, *ids, EOT] + [0] * (max_length - 2 - len(ids))


def test_dropped_entry_is_jekyll(theirs):
    assert theirs.decoder[MASK] == "jekyll</w>"
    ids = get_tokenizer()(["Dr. Jekyll"])[0]
    assert MASK not in ids
    assert "".join(get_tokenizer().decode(ids[3:5])) == "jekyll"
    assert ids[5] == EOT


@pytest.mark.parametrize("strategy", [anything, words, glued], ids=["unicode", "words", "glued"])
def test_ids_equal_open_clip(theirs, strategy):
    @settings(max_examples=1500, deadline=None, derandomize=True)
    @given(strategy)
    def check(sentence):
        if comparable(clean_text(sentence)):
            np.testing.assert_array_equal(get_tokenizer()([sentence])[0], expected(theirs, sentence))

    check()


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "   \n ",
        "A man wearing a black jacket, blue jeans and white shoes is walking with his back-pack.",
        "The woman's hair isn't long; she'll carry a bag. They've 2 bags and 10 books!",
        "dr jekyll and mr hyde",
        "caf\u00e9 vs cafe\u0301, na\u00efve, &quot;red&quot; &amp;amp; blue",
        "schÃ¶n and donâ€™t",
        "红色上衣的男人 👟👟 кофта",
        "word " * 200,
        "x" * 3000,
    ],
)
def test_written_sentences_equal_open_clip(theirs, sentence):
    np.testing.assert_array_equal(get_tokenizer()([sentence])[0], expected(theirs, sentence))
    np.testing.assert_array_equal(get_tokenizer()([sentence], 12)[0], expected(theirs, sentence, 12))


def test_empty_caption_is_sot_and_eot():
    ids = get_tokenizer()([""])
    assert ids.dtype == np.int64
    assert ids.shape == (1, 77)
    assert ids[0, :3].tolist() == [SOT, EOT, 0]
    assert get_tokenizer()([]).shape == (0, 77)


def test_truncation_keeps_eot():
    ids = get_tokenizer()(["red " * 100, "red"], 5)
    assert ids[0, [0, -1]].tolist() == [SOT, EOT]
    assert (ids[0, 1:-1] == ids[1, 1]).all()
    assert get_tokenizer()(["red"], 2).tolist() == [[SOT, EOT]]
    with pytest.raises(ValueError, match="at least 2"):
        get_tokenizer()(["red"], 1)


@pytest.mark.parametrize("name", ["<|endoftext|>", "<|startoftext|>", "<|mask|>", "<end_of_text>", "</w>"])
def test_names_of_special_tokens_are_plain_text(name):
    ids = get_tokenizer()([f"a {name} b"])[0]
    inner = ids[1 : ids.argmax()]
    assert (inner < MASK).all()
    assert "".join(get_tokenizer().decode(inner)) == f"a{name}b"


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(st.text(st.characters(max_codepoint=0x7F)) | glued)
def test_fast_cleaning_equals_full_cleaning(text):
    full = " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()
    assert clean_text(text) == full


def test_every_ascii_character_cleans_as_in_full():
    for text in map(chr, range(128)):
        for sentence in (text, f"a{text}b", f"a{text}#39;b"):
            assert (
                clean_text(sentence) == " ".join(html.unescape(html.unescape(ftfy.fix_text(sentence))).split()).lower()
            )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(words)
def test_spans_cover_the_cleaned_sentence(sentence):
    tokenizer, clean = get_tokenizer(), clean_text(sentence)
    spans = tokenizer.spans(sentence, 500)
    ids = tokenizer([sentence], 500)[0]
    assert len(spans) == np.flatnonzero(ids == EOT)[0] - 1
    covered = {i for start, end in spans for i in range(start, end)}
    assert covered == {i for i, c in enumerate(clean) if not c.isspace() and c != "\u0345"}
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)


def test_spans_and_decode_of_a_sentence():
    sentence = "A man's  Red jacket"
    clean = clean_text(sentence)
    assert [clean[a:b] for a, b in get_tokenizer().spans(sentence)] == ["a", "man", "'s", "red", "jacket"]
    ids = get_tokenizer()([sentence], 8)[0]
    assert get_tokenizer().decode(ids) == [
        "<|startoftext|>", "a", "man", "'s", "red", "jacket", "<|endoftext|>", "!",
    ]  # fmt: skip
    assert get_tokenizer().decode([MASK]) == ["<|mask|>"]
    assert len(get_tokenizer().spans("red " * 100, 12)) == 10
    with pytest.raises(ValueError, match=str(VOCAB)):
        get_tokenizer().decode([VOCAB])


def test_pickles_as_the_process_tokenizer():
    data = pickle.dumps(get_tokenizer())
    assert len(data) < 200
    assert pickle.loads(data) is get_tokenizer()


def test_wrong_input_is_named():
    with pytest.raises(TypeError, match="list of sentences"):
        get_tokenizer()("one sentence")
    with pytest.raises(TypeError, match="Sentence 1 is None"):
        get_tokenizer()(["a", None])


def test_missing_merges_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="open_clip_torch"):
        module.ClipTokenizer()


def test_tokenize_transform():
    one = Tokenize()({"caption": "a red coat"})["text"]
    assert one.shape == (77,)
    assert one.dtype == np.int64
    many = Tokenize(max_length=16)({"captions": ["a red coat", "", "blue"]})["text"]
    assert many.shape == (3, 16)
    np.testing.assert_array_equal(many[0], one[:16])
    with pytest.raises(KeyError, match="img_path"):
        Tokenize()({"img_path": "x.jpg"})
    with pytest.raises(ValueError, match="max_length=1"):
        Tokenize(max_length=1)
    assert repr(pickle.loads(pickle.dumps(Tokenize(16)))) == "Tokenize(max_length=16)"
