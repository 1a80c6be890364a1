"""ROC AUC against counting pairs, and masking by word class against words looked up one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets.transforms.tokenizer import get_tokenizer
from mmreid_text.evaluation.noise_report import masking_by_word_class, read_caption, roc_auc, token_classes
from mmreid_text.evaluation.word_classes import CLASSES, word_class


@settings(max_examples=50, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auc_counts_pairs(pairs):
    positive = [score for score, label in pairs if label]
    negative = [score for score, label in pairs if not label]
    scores, labels = map(np.array, zip(*pairs))
    if not positive or not negative:
        with pytest.raises(ValueError, match="needs both classes"):
            roc_auc(scores, labels)
        return
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    assert roc_auc(scores / 7, labels) == pytest.approx(wins / (len(positive) * len(negative)), rel=1e-12)


def test_auc_refuses_nan_and_shapes():
    with pytest.raises(ValueError, match="1 of 2 scores"):
        roc_auc(np.array([0.1, np.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        roc_auc(np.zeros(2), np.zeros(3, dtype=bool))


WORDS = [
    ("a", "function"), ("man", "noun"), ("in", "function"), ("the", "function"), ("turquoise", "colour"),
    ("windbreaker", "noun"), (",", "punctuation"), ("stilettos", "noun"), ("gray", "colour"), ("striped", "other"),
    ("xyzzyqj", "other"), (".", "punctuation"), ("dresses", "noun"), ("walking", "other"), ("...", "punctuation"),
]  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(captions=st.lists(st.lists(st.sampled_from(WORDS), max_size=14), min_size=1, max_size=4))
def test_every_token_has_the_class_of_its_word(captions):
    # Neighbouring punctuation would be read as one word.
    captions = [[w for i, w in enumerate(c) if not (i and w[1] == c[i - 1][1] == "punctuation")] for c in captions]
    tokenizer = get_tokenizer()
    text = tokenizer([" ".join(word for word, _ in caption) for caption in captions])
    for caption, got in zip(captions, token_classes(text)):
        expected = []
        for word, name in caption:
            expected += [CLASSES.index(name)] * int((tokenizer([word])[0] > 0).sum() - 2)
        assert got[got >= 0].tolist() == expected
        assert got[0] == -1


def test_report():
    text = get_tokenizer()(["A windbreaker, red.", "", "Red"])
    real = token_classes(text) >= 0
    probability = np.where(real, 0.1, 0.9)  # what stands outside the caption must not count
    probability[0, 2:4] = 0.4  # wind-breaker
    assert get_tokenizer().decode(text[0, 1:7]) == ["a", "wind", "breaker", ",", "red", "."]
    report = masking_by_word_class(text, probability)
    assert report["noun/tokens"] == pytest.approx(100 * 2 / 7)
    assert report["noun/probability"] == pytest.approx(40)
    assert report["colour/probability"] == pytest.approx(10)
    assert report["noun/masked"] == pytest.approx(100 * 0.8 / 1.3)
    assert report["all/probability"] == pytest.approx(100 * 1.3 / 7)
    assert "other/probability" not in report
    assert sum(report[f"{name}/tokens"] for name in CLASSES) == pytest.approx(100)


def test_report_without_tokens():
    with pytest.raises(ValueError, match="none of the 1 captions"):
        masking_by_word_class(get_tokenizer()([""]), np.zeros((1, 77)))


def test_truncation_does_not_join_captions():
    text = get_tokenizer()(["a wind" + "q" * 40, "jacket"], max_length=4)  # the word is cut, its end never comes
    assert token_classes(text)[1].tolist() == [-1, CLASSES.index("noun"), -1, -1]


@pytest.mark.parametrize(
    ("word", "name"), [("coats", "noun"), ("dress", "noun"), ("orange", "colour"), ("'s", "function")]
)
def test_word_class(word, name):
    assert word_class(word) == name


def test_read_caption():
    caption = "a man's t-shirt, in (dark) red/blue. he isn't here!"
    assert read_caption(get_tokenizer()([caption.capitalize()])[0]) == caption
    assert read_caption(get_tokenizer()([""])[0]) == ""
