"""Tokenizer of whole words, its vocabulary from captions, and training without identities."""

import importlib.util
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets.transforms import HideIdentity, Tokenize, WordTokenizer
from mmreid_text.datasets.transforms.words import END, UNKNOWN, words_of, write_words

ROOT = Path(__file__).parents[2]
CAPTIONS = ["A man in a red coat.", "The man's red T-shirt, a hat"]


@pytest.fixture
def vocab(tmp_path):
    path = tmp_path / "words.txt"
    assert write_words(path, CAPTIONS, size=100) == 9
    return path


def test_frequent_words_come_first_whatever_the_order(vocab, tmp_path):
    assert vocab.read_text().split() == ["a", "red", "coat", "hat", "in", "man", "man's", "t-shirt", "the"]
    write_words(tmp_path / "other.txt", CAPTIONS[::-1], size=100)
    assert (tmp_path / "other.txt").read_text() == vocab.read_text()
    assert write_words(tmp_path / "few.txt", CAPTIONS, size=6) == 2
    assert (tmp_path / "few.txt").read_text() == "a\nred\n"


def test_ids_are_words_then_the_end_then_zeros(vocab):
    tokenizer = WordTokenizer(vocab, 100)
    ids = tokenizer(["A red (RED!) hat; purple", "", "a a a a a a a"], max_length=6)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[4, 5, 5, 7, UNKNOWN, END], [END, 0, 0, 0, 0, 0], [4, 4, 4, 4, 4, END]]
    assert tokenizer.decode(ids[0]) == ["a", "red", "red", "hat", "[unknown]", "[end]"]
    # Of a larger file only the first words that fit are known.
    assert WordTokenizer(vocab, 6)(["a red hat"], 5).tolist() == [[4, 5, UNKNOWN, END, 0]]
    assert pickle.loads(pickle.dumps(tokenizer))(["hat"], 3).tolist() == [[7, END, 0]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=4), st.integers(2, 9))
def test_every_row_has_one_end_and_zeros_behind(tmp_path_factory, sentences, max_length):
    path = tmp_path_factory.getbasetemp() / "any_words.txt"
    if not path.exists():
        write_words(path, CAPTIONS, size=9)
    ids = WordTokenizer(path, 9)(sentences, max_length)
    assert ids.shape == (len(sentences), max_length)
    for row, sentence in zip(ids, sentences):
        (end,) = np.flatnonzero(row == END)
        assert end == min(len(words_of(sentence)), max_length - 1)
        assert (row[:end] > 0).all()
        assert not row[end + 1 :].any()
    assert ids.max(initial=0) < 9


def test_wrong_vocabularies_and_arguments(tmp_path, vocab):
    tokenizer = WordTokenizer(tmp_path / "none.txt")  # configs build before the file is made
    with pytest.raises(FileNotFoundError, match=r"none\.txt yet: .*build_vocab\.py"):
        tokenizer(["a"])
    (tmp_path / "twice.txt").write_text("a\nman\na\n")
    with pytest.raises(ValueError, match=r"twice\.txt, line 3: 'a' is no word, or stands there twice"):
        WordTokenizer(tmp_path / "twice.txt")(["a"])
    (tmp_path / "marks.txt").write_text("a\nA man\n")
    with pytest.raises(ValueError, match=r"marks\.txt, line 2: 'A man'"):
        WordTokenizer(tmp_path / "marks.txt")(["a"])
    with pytest.raises(ValueError, match="vocab_size=4 leaves no room"):
        WordTokenizer(vocab, 4)
    with pytest.raises(ValueError, match="max_length=1"):
        WordTokenizer(vocab)(["a"], 1)
    with pytest.raises(TypeError, match="got one string"):
        WordTokenizer(vocab)("a man")


def test_tokenize_takes_it(vocab):
    step = Tokenize(max_length=4, tokenizer=dict(type="WordTokenizer", vocab=str(vocab), vocab_size=100))
    assert step(dict(caption="red hat"))["text"].tolist() == [5, 7, END, 0]
    assert step(dict(captions=["red", "hat"]))["text"].tolist() == [[5, END, 0, 0], [7, END, 0, 0]]


def test_hidden_identities():
    assert HideIdentity()(dict(pid=7, image_id=3))["pid"] == 3


def call_tool(monkeypatch, *args):
    spec = importlib.util.spec_from_file_location("build_vocab", ROOT / "tools/build_vocab.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, "argv", ["build_vocab.py", *map(str, args)])
    tool.main()


def test_tool_reads_training_captions_alone(monkeypatch, tmp_path, cuhk_root, capsys):
    monkeypatch.setenv("DATA_ROOT", str(cuhk_root))
    config = ROOT / "configs/cmmt/resnet50_cuhk.py"
    call_tool(monkeypatch, config)
    words = (cuhk_root / "CUHK-PEDES/words.txt").read_text().split()
    assert {"coat", "black", "white", "person"} <= set(words)
    assert not {"orange", "teal", "yellow"} & set(words)  # val and test
    assert f"{len(words)} entries in {cuhk_root}/CUHK-PEDES/words.txt, from 32 captions of cuhk_pedes" in (
        capsys.readouterr().out
    )
    call_tool(monkeypatch, config, "--size", 9, "--out", tmp_path / "few/words.txt")
    assert len((tmp_path / "few/words.txt").read_text().split()) == 5
    with pytest.raises(SystemExit, match="1"):
        call_tool(monkeypatch, ROOT / "configs/irra/clip_b16_cuhk.py")
    assert "CLIP's vocabulary is fixed" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        call_tool(monkeypatch, ROOT / "configs/unipt/vit_b16_cuhk.py")
    assert "bert-base-uncased, which is no text file: say --out" in capsys.readouterr().err
    assert not (tmp_path / "google-bert").exists()
