"""Perceptual hashes against the transform's formula, matching against all pairs, and interrupted hashing."""

import duplicate_kinds
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmreid_text.datasets import perceptual_hash as module
from mmreid_text.datasets.image_packing import PackSettings, list_images, names_hash, pack_images
from mmreid_text.datasets.perceptual_hash import DISTANCE, hash_images, near_pairs, perceptual_hash


def bits_apart(a, b):
    return (int(a) ^ int(b)).bit_count()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 4), columns=st.integers(1, 3))
def test_hash_is_the_sign_of_low_frequencies_about_their_median(seed, rows, columns):
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (32 * rows, 32 * columns), dtype=np.uint8)
    small = np.rint(grey.reshape(32, rows, 32, columns).mean(axis=(1, 3)))
    k, x = np.arange(32)[:, None], np.arange(32)
    basis = np.cos(np.pi * (2 * x + 1) * k / 64) * np.sqrt(np.where(k == 0, 1, 2) / 32)
    low = (basis @ small @ basis.T)[:8, :8].ravel()
    got = np.unpackbits(np.array([perceptual_hash(np.repeat(grey[..., None], 3, axis=2))], dtype="<u8").view(np.uint8))
    clear = np.abs(low - np.median(low)) > 3  # halves round either way, which moves a coefficient a little
    np.testing.assert_array_equal(got[clear], low[clear] > np.median(low))
    assert clear.sum() > 40


def test_copies_are_within_the_default_distance_and_other_images_are_not():
    identities, images = duplicate_kinds.people(6)
    hashes = duplicate_kinds.hashes_of(images)
    at = duplicate_kinds.DISTANCES.index(DISTANCE)
    for kind in ("JPEG, quality 75", "half the size, then JPEG 75", "noise of 8 grey levels"):
        assert duplicate_kinds.recall(hashes, images, kind)[at] > 0.97
    for same_person in (True, False):
        pairs, found = duplicate_kinds.false_pairs(hashes, identities, same_person)
        assert pairs > 30
        assert found[at] == 0


hash_lists = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 63), st.integers(0, 63)), max_size=40)


@settings(max_examples=40, deadline=None)
@given(left=hash_lists, right=hash_lists, distance=st.integers(0, 40), jobs=st.integers(1, 3))
def test_near_pairs_are_all_pairs(left, right, distance, jobs):
    centres = np.random.default_rng(0).integers(0, 2**64, 6, dtype=np.uint64)
    train, benchmark = (
        np.array([int(centres[c]) ^ (1 << a) ^ (1 << b) for c, a, b in side], dtype=np.uint64) for side in (left, right)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_COLUMNS", 7)
        patch.setattr(module, "_BLOCK_ROWS", 3)
        pairs = near_pairs(train, benchmark, distance, jobs)
    expected = [
        (bits, column, row)
        for row, a in enumerate(train)
        for column, b in enumerate(benchmark)
        if (bits := bits_apart(a, b)) <= distance
    ]
    got = zip(pairs.distance.tolist(), pairs.benchmark.tolist(), pairs.train.tolist())
    assert list(got) == sorted(expected)


def test_near_pairs_of_many_rows():
    rng = np.random.default_rng(1)
    train = rng.integers(0, 2**64, 40_000, dtype=np.uint64)
    benchmark = train[rng.permutation(40_000)[:50]] ^ np.uint64(0b10101)
    pairs = near_pairs(train, benchmark, 3)
    assert sorted(pairs.benchmark.tolist()) == list(range(50))
    assert (pairs.distance == 3).all()
    np.testing.assert_array_equal(train[pairs.train] ^ np.uint64(0b10101), benchmark[pairs.benchmark])


def test_near_pairs_refuses_what_is_no_duplicate(monkeypatch):
    same = np.zeros(10, dtype=np.uint64)
    monkeypatch.setattr(module, "MAX_PAIRS", 99)
    with pytest.raises(ValueError, match=r"More than 99 pairs .* smaller --distance"):
        near_pairs(same, same, 4)
    with pytest.raises(ValueError, match=r"distance 64 must lie in 0..63"):
        near_pairs(same, same, 64)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(2)
    (tmp_path / "imgs").mkdir()
    for i in range(11):
        coarse = rng.integers(0, 256, (6, 3, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 96), Image.Resampling.BICUBIC).save(tmp_path / f"imgs/{i:02d}.jpg")
    return tmp_path / "imgs"


def expected_hashes(folder, names):
    return [perceptual_hash(np.asarray(Image.open(folder / name).convert("RGB"))) for name in names.to_pylist()]


def test_hashes_of_a_folder_and_of_a_store(folder, tmp_path):
    names = list_images(folder)
    of_folder = hash_images(str(folder), names, tmp_path / "a.hashes", 2)
    assert of_folder.hashes.tolist() == expected_hashes(folder, names)
    pack_images(names, PackSettings("x", str(folder), names_hash(names)), tmp_path / "store")
    of_store = hash_images(str(tmp_path / "store"), names, tmp_path / "b.hashes")
    np.testing.assert_array_equal(of_store.hashes, of_folder.hashes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hashes", "b.hashes", "imgs", "store"]


@pytest.fixture
def hashed_names(monkeypatch):
    """Names of the images that are handed to the processes."""
    seen = []

    def watched(pool, function, tasks, ahead):
        for task in tasks:
            seen.extend(task)
            yield pool.submit(function, task).result()

    monkeypatch.setattr(module, "map_ahead", watched)
    return seen


def test_an_interrupted_run_goes_on_after_the_last_chunk(folder, tmp_path, monkeypatch, hashed_names):
    names, path = list_images(folder), tmp_path / "x.hashes"
    monkeypatch.setattr(module, "CHUNK", 4)
    monkeypatch.setattr(module, "_TASK", 2)
    write, written = module.write_arrow, []

    def interrupted(target, *args):
        write(target, *args)
        written.append(target)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_arrow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hash_images(str(folder), names, path)
    assert not path.exists()
    (tmp_path / ".x.hashes.4711").touch()  # what a kill leaves
    hashed_names.clear()
    monkeypatch.setattr(module, "write_arrow", write)
    images = hash_images(str(folder), names, path)
    assert hashed_names == names.to_pylist()[8:]
    assert images.hashes.tolist() == expected_hashes(folder, names)
    hashed_names.clear()
    again = hash_images(str(folder), names, path)
    assert hashed_names == []
    np.testing.assert_array_equal(again.hashes, images.hashes)
    assert [p.name for p in tmp_path.iterdir() if "hashes" in p.name] == ["x.hashes"]


def test_unreadable_images_are_named_and_tried_again(folder, tmp_path, hashed_names):
    good = (folder / "03.jpg").read_bytes()
    (folder / "03.jpg").write_bytes(good[:200])
    (folder / "07.jpg").write_bytes(b"")
    names, path = list_images(folder), tmp_path / "x.hashes"
    images = hash_images(str(folder), names, path)
    assert set(images.errors) == {"03.jpg", "07.jpg"}
    assert images.readable().tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    (folder / "03.jpg").write_bytes(good)
    hashed_names.clear()
    images = hash_images(str(folder), names, path)
    assert hashed_names == ["03.jpg", "07.jpg"]
    assert set(images.errors) == {"07.jpg"}
    rows = images.readable()
    assert images.hashes[rows].tolist() == expected_hashes(folder, names.take(pa.array(rows)))


def test_hashes_of_other_images_or_another_algorithm_are_void(folder, tmp_path, monkeypatch, hashed_names):
    names, path = list_images(folder), tmp_path / "x.hashes"
    hash_images(str(folder), names, path)
    fewer = names.slice(1)
    hashed_names.clear()
    assert len(hash_images(str(folder), fewer, path).hashes) == 10
    assert hashed_names == fewer.to_pylist()
    monkeypatch.setattr(module, "ALGORITHM", "another")
    hashed_names.clear()
    hash_images(str(folder), fewer, path)
    assert hashed_names == fewer.to_pylist()
    path.write_bytes(path.read_bytes()[:-20])
    hashed_names.clear()
    assert hash_images(str(folder), fewer, path).hashes.tolist() == expected_hashes(folder, fewer)
    assert len(hashed_names) == 10
