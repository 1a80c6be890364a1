"""External sorting against sorting in memory, and going on after an interruption."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets import sorted_runs
from mmreid_text.datasets.json_pairs import read_pairs
from mmreid_text.datasets.sorted_runs import CaptionRuns, SortedNames

name = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\"), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(names=st.lists(name, unique=True, max_size=20), size=st.integers(1, 6), run=st.integers(1, 6))
def test_names_sort_as_python_sorts_them(tmp_path_factory, names, size, run):
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_runs, "RUN_NAMES", run)
        on_disk = SortedNames(iter(names), size, folder)
    again = SortedNames(iter(["another"]), size, folder)  # what was kept counts
    expected = [sorted(names)[i : i + size] for i in range(0, len(names), size)]
    for found in (SortedNames(iter(names), size, None), on_disk, again):
        assert [chunk.to_pylist() for chunk in found] == expected
        assert found.count == len(names)
    assert [path.name for path in folder.iterdir()] == ["names.arrow"]


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.sampled_from(["", "/x/", "C:\\y\\"]), name, st.text(max_size=3)), max_size=20),
    run=st.integers(1, 6),
    borders=st.tuples(name, name).map(sorted),
    ends=st.tuples(st.booleans(), st.booleans()),
    stop=st.integers(0, 25),
)
def test_captions_between_names(tmp_path_factory, pairs, run, borders, ends, stop):
    pairs = [(folder, key, text) for folder, key, text in pairs if text.isprintable()]
    path = tmp_path_factory.mktemp("runs") / "Ts.json"
    members = (f"{json.dumps(folder + key)}: {json.dumps(text)}" for folder, key, text in pairs)
    path.write_text("{" + ",".join(members) + "}")
    first, last = (None if end else border for border, end in zip(borders, ends))
    expected = [
        (key, text)
        for _, key, text in sorted(pairs, key=lambda pair: pair[1])
        if (first is None or key >= first) and (last is None or key < last)
    ]

    def killed(count):
        for i, pair in enumerate(read_pairs(path)):
            if i == count:
                raise KeyboardInterrupt
            yield pair

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_runs, "RUN_CAPTIONS", run)
        work = path.with_name("work")
        work.mkdir()
        if stop < len(pairs):
            patch.setattr(sorted_runs, "read_pairs", lambda path, offset: killed(stop))
            with pytest.raises(KeyboardInterrupt):
                CaptionRuns(path, work)
        read = []
        patch.setattr(
            sorted_runs, "read_pairs", lambda path, offset: (read.append(p) or p for p in read_pairs(path, offset))
        )
        on_disk = CaptionRuns(path, work)
        if stop < len(pairs):
            assert len(read) == len(pairs) - stop // run * run  # whole runs are not read again
        for runs in (on_disk, CaptionRuns(path, work), CaptionRuns(path, None)):
            table = runs.between(first, last)
            found = list(zip(table["name"].to_pylist(), table["caption"].to_pylist()))
            assert sorted(found, key=lambda pair: pair[0]) == expected  # a stable sort keeps the order of equal names
            assert runs.count == len(pairs)


def test_text_that_is_no_unicode_is_named(tmp_path):
    path = tmp_path / "Ts.json"
    path.write_text(json.dumps({"a.jpg": "half a \ud83d"}))
    with pytest.raises(ValueError, match=r"Ts.json: a name or caption is no Unicode text"):
        CaptionRuns(path, None)
