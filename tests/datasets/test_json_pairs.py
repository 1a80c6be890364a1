"""The incremental reader of flat JSON objects against the json module."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets import json_pairs
from mmreid_text.datasets.json_pairs import read_pairs

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    content=st.dictionaries(text, text, max_size=7),
    ascii_only=st.booleans(),
    layout=st.sampled_from([None, 1, 4]),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", "\t: ")]),
    around=st.sampled_from([b"", b"\xef\xbb\xbf", b" \n\t\r "]),
    block=st.integers(1, 40),
)
def test_pairs_equal_json(tmp_path_factory, content, ascii_only, layout, separators, around, block):
    path = tmp_path_factory.mktemp("json") / "x.json"
    body = json.dumps(content, ensure_ascii=ascii_only, indent=layout, separators=separators).encode()
    path.write_bytes(around + body + around.replace(b"\xef\xbb\xbf", b""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_pairs, "BLOCK", max(block, 3 + len(around)))
        pairs = list(read_pairs(path))
        assert [(pair.key, pair.text) for pair in pairs] == list(content.items())
        for i, pair in enumerate(pairs):
            assert list(read_pairs(path, pair.offset)) == pairs[i + 1 :]


def test_a_key_twice_comes_twice(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": "1", "a": "2"}')
    assert [pair[:2] for pair in read_pairs(path)] == [("a", "1"), ("a", "2")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"not valid JSON \(byte 0: expected '{'"),
        ("[1]", "holds a JSON list, but the published file is a dict"),
        ('"a"', "holds a JSON str"),
        ("-1", "holds a JSON number"),
        ("null", "holds a JSON bool or null"),
        ("{", r"not valid JSON \(byte 1: expected a name"),
        ('{"a": "b"', "not valid JSON .*expected ',' or '}'"),
        ('{"a": "b', "not valid JSON .*Unterminated string"),
        ('{"a": "b",}', r"not valid JSON \(byte 10: expected a name"),
        ('{"a" "b"}', "expected a name in quotes, a colon and a text"),
        ('{"a": "b"} x', r"byte 10: extra data"),
        ("{} {}", r"byte 2: extra data"),
        ('{"a": "\\q"}', "Invalid .*escape"),
        ('{"a": "x\ny"}', "Invalid control character"),
        ('{"a": ["b"]}', r"the caption of 'a' is \['b'\], but must be one string"),
        ('{"x": "y", "a": null}', "the caption of 'a' is None"),
        ('{"a": 12}', "the caption of 'a' is 12"),
    ],
)
def test_what_is_wrong_is_named(content, message, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        list(read_pairs(path))
    assert str(path) in str(error.value)


def test_bytes_that_are_no_utf8(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a": "b", "c": "\xff"}')
    with pytest.raises(ValueError, match=r"not valid JSON \(byte 10: .*invalid start byte"):
        list(read_pairs(path))


def test_damage_is_found_without_reading_the_rest(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    monkeypatch.setattr(json_pairs, "BLOCK", 100)
    monkeypatch.setattr(json_pairs, "MAX_PAIR", 1000)
    path.write_text('{"a" = "b", ' + " " * 1_000_000 + "}")
    real, read = json_pairs._bad_pair, []
    monkeypatch.setattr(json_pairs, "_bad_pair", lambda rest, *args: read.append(len(rest)) or real(rest, *args))
    with pytest.raises(ValueError, match="not valid JSON"):
        list(read_pairs(path))
    assert read[0] <= 1100
