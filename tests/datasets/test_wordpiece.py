"""WordPieceTokenizer against transformers' BERT tokenizer, its vocabulary files, and lengths of its captions."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

from mmreid_text.datasets.transforms.text import Tokenize
from mmreid_text.datasets.transforms.wordpiece import SPECIAL, WordPieceTokenizer, write_vocabulary
from mmreid_text.models import hub
from mmreid_text.models.data_preprocessor import ReIDDataPreprocessor

PIECES = [
    *SPECIAL,
    "a",
    "man",
    "wo",
    "##man",
    "##s",
    "coat",
    "red",
    "cafe",
    "t",
    "-",
    "shirt",
    "'",
    ".",
    "[",
    "]",
    "mask",
]
WORDS = [
    "A",
    "man",
    "WOMAN",
    "womans",
    "coat",
    "red",
    "Café",
    "t-shirt",
    "man's",
    ".",
    "[MASK]",
    "mask",
    "xyz",
    "上衣",
    "\t",
]


@pytest.fixture(scope="module")
def vocab(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def theirs(vocab):
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(PIECES)})


@settings(deadline=None, max_examples=50)
@given(words=st.lists(st.sampled_from([word for word in WORDS if word != "[MASK]"]), max_size=20))
def test_ids_are_those_of_bert(vocab, theirs, words):
    sentence = " ".join(words)
    expected = theirs(sentence, padding="max_length", max_length=12, truncation=True)["input_ids"]
    assert WordPieceTokenizer(vocab)([sentence], 12).tolist() == [expected]


@settings(deadline=None, max_examples=50)
@given(sentence=st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS)).map(" ".join)))
def test_zero_is_padding_and_nothing_else(vocab, sentence):
    tokenizer = WordPieceTokenizer(vocab)
    (row,) = tokenizer([sentence], 16)
    length = np.count_nonzero(row)
    assert row[:length].all()
    assert tokenizer.decode([row[0], row[length - 1]]) == ["[CLS]", "[SEP]"]
    assert tokenizer.mask_id not in row  # names of special tokens are words like any other
    assert row.max() < tokenizer.vocab_size


def test_what_a_masker_asks(vocab):
    tokenizer = WordPieceTokenizer(vocab)
    assert tokenizer.decode(np.flatnonzero(tokenizer.continues)) == ["##man", "##s"]
    assert tokenizer.decode(tokenizer.special_ids) == list(SPECIAL)
    assert tokenizer.decode([tokenizer.mask_id]) == ["[MASK]"]
    assert tokenizer.vocab_size == len(PIECES)


def test_tokenize_uses_it_whatever_is_kept_beside_the_table(vocab):
    step = pickle.loads(pickle.dumps(Tokenize(8, tokenizer=dict(type="WordPieceTokenizer", vocab=str(vocab)))))
    one = step({"caption": "a red coat", "token_ids": [("a red coat", np.array([320, 736], np.uint16))]})["text"]
    assert one.tolist() == [2, 5, 11, 10, 3, 0, 0, 0]
    many = step({"captions": ["a red coat", ""]})["text"]
    assert many.tolist() == [one.tolist(), [2, 3, 0, 0, 0, 0, 0, 0]]
    batch = {"image": torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "text": torch.from_numpy(many)}
    result = ReIDDataPreprocessor(eot=None)(batch)
    assert result["lengths"] == [5, 2]
    assert result["text"].tolist() == many[:, :5].tolist()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (PIECES[1:], r"it lacks \[PAD\]"),
        ([PIECES[1], PIECES[0], *PIECES[2:]], r"line 1 is '\[UNK\]', not \[PAD\]"),
        ([*PIECES, "coat"], r"line 22: 'coat' stands on line 11 already"),
    ],
)
def test_files_that_are_no_vocabulary_are_refused(tmp_path, lines, message):
    (tmp_path / "v.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        WordPieceTokenizer(tmp_path / "v.txt")


def test_missing_files_are_named_and_hub_names_wait(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no vocabulary .*nothing\.txt"):
        WordPieceTokenizer(tmp_path / "nothing.txt")
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt"):
        WordPieceTokenizer(tmp_path)
    assert "google-bert/none" in repr(WordPieceTokenizer("google-bert/none"))
    with pytest.raises(TypeError, match="one string"):
        WordPieceTokenizer("google-bert/none")("a coat")


def test_a_vocabulary_is_learnt_from_captions(tmp_path):
    captions = ["A man in a red coat.", "A woman with short hair and a red bag", "the woman's shirt"]
    count = write_vocabulary(tmp_path / "a.txt", captions)
    write_vocabulary(tmp_path / "b.txt", captions[::-1])
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
    tokenizer = WordPieceTokenizer(tmp_path / "a.txt")
    assert tokenizer.vocab_size == count
    assert tokenizer.decode(tokenizer(captions[:1], 9)[0]) == [
        "[CLS]",
        "a",
        "man",
        "in",
        "a",
        "red",
        "coat",
        ".",
        "[SEP]",
    ]
    with pytest.raises(ValueError, match="size=10 is too small"):
        write_vocabulary(tmp_path / "a.txt", captions, size=10)
    (row,) = tokenizer(["a coats"], 6)
    assert tokenizer.decode(row[:5]) == ["[CLS]", "a", "coat", "##s", "[SEP]"]


def test_a_vocabulary_that_cannot_be_had_says_where_to_put_it(monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt of 'google-bert/none' is not in .*HF_HUB_OFFLINE is set"):
        WordPieceTokenizer("google-bert/none")(["a coat"])
