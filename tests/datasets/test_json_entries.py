"""Streaming a JSON list of objects against parsing it whole."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets import json_entries
from mmreid_text.datasets.json_entries import read_entries

value = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2, width=16) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
entries = st.lists(st.dictionaries(st.text(max_size=2), value, max_size=3), max_size=6)


@settings(max_examples=80, deadline=None)
@given(
    content=entries,
    block=st.integers(1, 40),
    ascii=st.booleans(),
    indent=st.sampled_from([None, 1]),
    around=st.sampled_from([("", ""), ("\n ", " \n"), ("\ufeff", "\n")]),
)
def test_entries_equal_the_whole_parsed(tmp_path_factory, content, block, ascii, indent, around):
    path = tmp_path_factory.mktemp("json") / "list.json"
    path.write_text(around[0] + json.dumps(content, ensure_ascii=ascii, indent=indent) + around[1], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_entries, "BLOCK", block)
        found = list(read_entries(path))
        assert [entry.value for entry in found] == content
        for i, entry in enumerate(found):
            assert path.read_bytes()[entry.start : entry.start + 1] == b"{"
            assert list(read_entries(path, entry.start)) == found[i:]
            assert list(read_entries(path, entry.offset)) == found[i + 1 :]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"not valid JSON \(byte 0: expected '\['\)"),
        ("{}", "holds a JSON dict, but the published file is a list"),
        ("3", "holds a JSON number, but the published file is a list"),
        ("[1]", r"the entry at byte 1 begins with '1\]', but must be an object"),
        ("[", r"byte 1: in the entry that begins there: Expecting value"),
        ('[{"a": 1}', r"byte 9: expected ',' or '\]' behind an entry"),
        ('[{"a": 1}, ]', r"the entry at byte 11 begins with '\]'"),
        ('[{"é": 1}, {"b"', r"byte 12: in the entry that begins there"),
        ('[{"a": 1}] []', r"byte 10: extra data behind the list"),
        ('[{"a": [' + "[" * 100_000, r"byte 1: in the entry that begins there: .*recursion"),
        (b'[{"a": "\xff"}]', r"not valid JSON \(byte 0: behind it 'utf-8' codec"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "list.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=rf"{path}.*{message}"):
        list(read_entries(path))


def test_an_entry_that_never_ends_is_not_read_on_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(json_entries, "BLOCK", 100)
    monkeypatch.setattr(json_entries, "MAX_ENTRY", 1000)
    path = tmp_path / "list.json"
    path.write_text('[{"a": "' + "x" * 1_000_000)
    parsed, parse = [], json_entries._decode
    monkeypatch.setattr(json_entries, "_decode", lambda text, at: parsed.append(len(text)) or parse(text, at))
    with pytest.raises(ValueError, match="byte 1: in the entry that begins there: Unterminated string"):
        list(read_entries(path))
    assert max(parsed) <= 1200
