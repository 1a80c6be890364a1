"""Dumps of features: written, read, ranked, refused."""

import json

import numpy as np
import pytest

from mmreid_text.evaluation.feature_dumps import METRICS, DumpNotes, read_dump, score_queries, write_dump
from mmreid_text.evaluation.features import DatasetFeatures
from mmreid_text.evaluation.ranking import rank


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    text_image = np.repeat(np.arange(20), 2)
    pid = np.arange(20) // 3
    return DatasetFeatures(
        image=rng.normal(size=(20, 8)).astype(np.float32),
        text=rng.normal(size=(40, 8)).astype(np.float32),
        image_pid=pid,
        text_pid=pid[text_image],
        text_image=text_image,
        row=np.arange(20),
        image_id=np.arange(20),
    )


def test_scores_of_a_dump_are_those_of_its_features(features, tmp_path):
    notes = DumpNotes(data="d", weights="w", checkpoint="c.pth", protocol="val")
    write_dump(tmp_path / "new/a.npz", features, notes)
    scores = score_queries(tmp_path / "new/a.npz")
    expected = rank(features.text, features.image, features.text_pid, features.image_pid)
    assert dict(zip(METRICS, scores.percent.mean(0))) == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(scores.pid, features.text_pid)
    np.testing.assert_array_equal(scores.gallery, [3, 3, 3, 3, 3, 3, 2])
    assert scores.notes == notes
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.npz"]


def test_order_and_numbering_of_a_dump_do_not_matter(features, tmp_path):
    arrays = {name: getattr(features, name) for name in ("image", "text", "image_pid", "text_pid")}
    np.savez(tmp_path / "ours.npz", **arrays)
    rng = np.random.default_rng(1)
    for side in ("image", "text"):
        order = rng.permutation(len(arrays[side]))
        arrays[side] = arrays[side][order]
        arrays[f"{side}_pid"] = 100 + 7 * arrays[f"{side}_pid"][order]
    np.savez(tmp_path / "theirs.npz", **arrays)
    ours, theirs = (score_queries(tmp_path / f"{name}.npz") for name in ("ours", "theirs"))
    np.testing.assert_array_equal(ours.pid, theirs.pid)
    np.testing.assert_array_equal(ours.gallery, theirs.gallery)
    for identity in range(7):
        np.testing.assert_allclose(
            theirs.percent[theirs.pid == identity].sum(0), ours.percent[ours.pid == identity].sum(0)
        )


def test_dumps_of_others_need_four_arrays(features, tmp_path):
    arrays = {name: getattr(features, name) for name in ("image", "text", "image_pid", "text_pid")}
    np.savez(tmp_path / "a.npz", about=json.dumps({"protocol": "test-selected", "by": "others"}), **arrays)
    assert read_dump(tmp_path / "a.npz")[1] == DumpNotes(protocol="test-selected")
    np.savez(tmp_path / "a.npz", about=json.dumps({"protocol": "tset"}), **arrays)
    with pytest.raises(ValueError, match="states the protocol 'tset', which is none of val, paper-val, test-selected"):
        read_dump(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", **arrays)
    assert read_dump(tmp_path / "a.npz")[1] == DumpNotes()
    arrays["text_pid"] = arrays["text_pid"][1:]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match="40 rows of text, but 39 of text_pid"):
        read_dump(tmp_path / "a.npz")
    del arrays["image_pid"]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=r"a\.npz is no feature dump \(it lacks the arrays image_pid\)"):
        read_dump(tmp_path / "a.npz")


def test_damaged_and_missing_dumps_are_named(features, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.npz does not exist"):
        read_dump(tmp_path / "a.npz")
    write_dump(tmp_path / "a.npz", features, DumpNotes())
    whole = (tmp_path / "a.npz").read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "a.npz").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"a\.npz is no feature dump"):
            read_dump(tmp_path / "a.npz")
    features.text[3, 0] = np.nan
    write_dump(tmp_path / "a.npz", features, DumpNotes())
    with pytest.raises(ValueError, match=r"a\.npz: query feature 3 is not finite"):
        score_queries(tmp_path / "a.npz")
