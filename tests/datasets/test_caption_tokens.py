"""Mapped token ids against tokenizing, in any state that a killed writer may leave."""

import itertools
import os
import pickle
import shutil
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import BaseTransform

from mmreid_text.datasets import CaptionTable, TextReIDDataset, caption_tokens, write_caption_table
from mmreid_text.datasets.caption_tokens import CaptionTokens, open_caption_tokens, tokens_path, write_caption_tokens
from mmreid_text.datasets.transforms import text as text_transforms
from mmreid_text.datasets.transforms.text import Tokenize
from mmreid_text.datasets.transforms.tokenizer import EOT, SOT, get_tokenizer

WORDS = ["a", "man's", "coat,", "“red”", "naïve", "上衣", "👟", "&amp;", "jekyll", "walking", "42", "backpacks"]


def write_table(path, captions, per_image=2):
    image = np.arange(len(captions)) // per_image
    columns = {"image": [f"{i}.jpg" for i in image], "caption": captions, "pid": image, "image_id": image}
    return write_caption_table(path, [columns], "mine", str(path.parent))


def make_captions(number, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(0, 30))) for _ in range(number)]


@pytest.fixture
def untokenized(monkeypatch):
    """Fails where anything is tokenized."""

    def fail():
        raise AssertionError("tokenized")

    monkeypatch.setattr(text_transforms, "get_tokenizer", fail)


@settings(max_examples=25, deadline=None)
@given(
    captions=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=12),
    lengths=st.lists(st.integers(2, 90), min_size=1, max_size=3),
    chunk=st.integers(1, 5),
    drop=st.integers(0, 3),
)
def test_ids_equal_tokenizing(tmp_path_factory, captions, lengths, chunk, drop):
    path = tmp_path_factory.mktemp("tokens") / "t.arrow"
    table = write_table(path, captions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caption_tokens, "CHUNK_ROWS", chunk)
        patch.setattr(caption_tokens, "worker_pool", no_processes)
        write_caption_tokens(table)
    rows = np.flatnonzero(np.arange(len(captions)) % 4 != drop)
    rows = rows if len(rows) else np.arange(len(captions))
    part = table.select(rows)
    for test_mode in (False, True):
        for length in lengths:
            dataset = TextReIDDataset(part, [Tokenize(length)], test_mode=test_mode)
            expected = get_tokenizer()([captions[row] for row in rows], length)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(text_transforms, "get_tokenizer", None)
                found = np.vstack([dataset[i]["text"] for i in range(len(dataset))])
            assert found.dtype == np.int64
            np.testing.assert_array_equal(found, expected)
            assert (found == EOT).any(axis=1).all()
            assert (found[:, 0] == SOT).all()


class Alone(Executor):
    """A pool of no processes."""

    def submit(self, function, item):
        future = Future()
        future.set_result(function(item))
        return future


@contextmanager
def no_processes(jobs, task, initializer, initargs):
    initializer(*initargs)
    yield Alone()


def test_processes_share_the_work_and_the_file_is_small(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(caption_tokens, "CHUNK_ROWS", 100)
    captions = make_captions(1_050)
    table = write_table(tmp_path / "t.arrow", captions)
    tokens = write_caption_tokens(table, jobs=2)
    expected, ends = get_tokenizer().uncut(captions)
    assert [tokens[i].tolist() for i in range(1_050)] == [expected[a:b].tolist() for a, b in itertools.pairwise(ends)]
    assert tokens[0].dtype == np.uint16
    assert not tokens[0].flags.owndata
    assert os.path.getsize(tokens.path) < 2 * len(expected) + 4 * 1_050 + 11 * 600
    assert "captions/s" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["t.arrow", "t.arrow.tokens"]
    before = pa.total_allocated_bytes()
    assert pickle.loads(pickle.dumps(tokens))[1_049].tolist() == tokens[1_049].tolist()
    assert len(pickle.dumps(tokens)) < 500
    assert pa.total_allocated_bytes() - before < 1_000


def test_every_cut_of_the_part_is_gone_on_from(tmp_path, monkeypatch):
    monkeypatch.setattr(caption_tokens, "CHUNK_ROWS", 10)
    monkeypatch.setattr(caption_tokens, "worker_pool", no_processes)
    table = write_table(tmp_path / "t.arrow", make_captions(35))
    whole = write_caption_tokens(table)
    content, part = Path(whole.path).read_bytes(), tokens_path(table).with_name("t.arrow.tokens.part")
    real, starts = caption_tokens._tokenize_chunk, []
    monkeypatch.setattr(caption_tokens, "_tokenize_chunk", lambda start: starts.append(start) or real(start))
    fresh = set()
    for size in sorted({*range(0, len(content), 97), len(content)}):
        os.remove(whole.path)
        part.write_bytes(content[:size])
        starts.clear()
        assert write_caption_tokens(table)[34].tolist() == whole[34].tolist()
        assert Path(whole.path).read_bytes() == content
        fresh.add(len(starts))
    assert fresh == {1, 2, 3, 4}  # at most what the cut took is done again
    os.replace(whole.path, part)
    other = write_table(tmp_path / "t.arrow", make_captions(35, seed=1))
    starts.clear()
    write_caption_tokens(other)
    assert starts == [0, 10, 20, 30]  # another table's part is not gone on with


def test_tokens_that_do_not_fit_are_passed_over(tmp_path, monkeypatch):
    captions = make_captions(30)
    table = write_table(tmp_path / "t.arrow", captions)
    assert open_caption_tokens(table) is None
    path = write_caption_tokens(table).path
    expected = get_tokenizer()(captions)

    def check(message):
        with pytest.warns(UserWarning, match=rf"t.arrow.tokens is passed over: it {message}.*prepare_data.py"):
            dataset = TextReIDDataset(tmp_path / "t.arrow", [Tokenize()])
        assert [dataset[i]["text"].tolist() for i in range(30)] == expected.tolist()

    whole = Path(path).read_bytes()
    shutil.copy(path, tmp_path / "other.arrow.tokens")
    for size, message in ((0, "is damaged"), (500, "is damaged"), (len(whole) - 100, "is damaged")):
        Path(path).write_bytes(whole[:size])
        check(message)
    Path(path).write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(get_tokenizer(), "fingerprint", "a later tokenizer")
        check("was made for another tokenizer")
    TextReIDDataset(tmp_path / "t.arrow", [Tokenize()])
    other = write_table(tmp_path / "other.arrow", make_captions(29))
    with pytest.raises(ValueError, match="it was made for another table, rows"):
        open_caption_tokens(other)


class Shout(BaseTransform):
    def transform(self, results):
        return {**results, "caption": results["caption"] + " loudly"}


def test_a_caption_changed_on_the_way_is_tokenized(tmp_path):
    captions = make_captions(4)
    table = write_table(tmp_path / "t.arrow", captions)
    write_caption_tokens(table)
    dataset = TextReIDDataset(table, [Shout(), Tokenize()])
    assert dataset[3]["text"].tolist() == get_tokenizer()([captions[3] + " loudly"])[0].tolist()


def test_tokens_are_not_looked_for_where_the_table_is_in_memory(tmp_path, untokenized):
    table = CaptionTable.from_columns({"image": ["a"], "caption": ["b"], "pid": [0], "image_id": [0]}, "mine")
    assert tokens_path(table) is None
    assert open_caption_tokens(table) is None
    with pytest.raises(ValueError, match="is in memory"):
        write_caption_tokens(table)
    with pytest.raises(AssertionError, match="tokenized"):
        TextReIDDataset(table, [Tokenize()], image_root=tmp_path)[0]


def test_missing_file_of_pickled_tokens(tmp_path):
    tokens = write_caption_tokens(write_table(tmp_path / "t.arrow", ["x", "y"]))
    pickled = pickle.dumps(tokens)
    os.remove(tokens.path)
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)
    assert isinstance(tokens, CaptionTokens)
