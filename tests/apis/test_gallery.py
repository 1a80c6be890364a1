"""Galleries: built, kept up to date, searched, in every store; and what happens to hostile ones."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from gallery_crops import inferencer, write_crop, write_crops

from mmreid_text.apis import Gallery, TextReIDInferencer
from mmreid_text.file_lock import alone
from mmreid_text.gallery.exact_search import exact_search
from mmreid_text.gallery.index_folder import LOCK, IndexFolder, Manifest
from mmreid_text.gallery.local_store import TARGET_RECALL, LocalStore
from mmreid_text.gallery.store import Selection

pytest.importorskip("faiss")
STORES = ("exact", "int8", "ivf", "milvus")
PATTERN = r"(?P<number>\d+)_(?P<camera>c\d)"


def build(folder, store=None, **options):
    return Gallery.build(folder / "crops", inferencer(), folder / "index", store, **options)


def naive(folder, names, sentence, topk):
    """Names and scores by encoding everything."""
    feats = inferencer().encode_image([folder / "crops" / name for name in names])
    scores = (feats @ inferencer().encode_text([sentence]).T)[:, 0]
    order = np.argsort(-scores, kind="stable")[:topk]
    return [names[i] for i in order], scores[order]


def check(folder, gallery, names):
    """The gallery finds what encoding all of ``names`` finds."""
    assert len(gallery) == len(names)
    assert sorted(gallery.table.column("path").to_pylist()) == sorted(names)
    wanted, scores = naive(folder, sorted(names), "a woman in a red coat", 10)
    hits = gallery.search("a woman in a red coat", 10)
    np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-5)
    assert [hit.path for hit in hits] == wanted


@pytest.mark.parametrize("store", STORES)
def test_a_gallery_follows_its_folder(tmp_path, store):
    names = write_crops(tmp_path / "crops", 40)
    crops = tmp_path / "crops"
    gallery = build(tmp_path, store, pattern=PATTERN, batch_size=16)
    check(tmp_path, gallery, names)
    assert (gallery.report.encoded, gallery.report.unchanged) == (40, 0)
    assert gallery.columns == {"path": "text", "number": "number", "camera": "text"}
    if store in ("int8", "ivf"):
        assert gallery.report.recall == {"images": 1.0, "sentences": 1.0}
    hits = gallery.search("a man", 40, 'camera == "c2" and number < 30 and not "night/" in path')
    assert sorted(hit.path for hit in hits) == [f"{i:03d}_c2.png" for i in range(2, 30, 6)]
    assert all(hit.metadata == {"number": int(hit.path[:3]), "camera": "c2"} for hit in hits)
    assert gallery.search("a man", 5, "number > 99") == []
    gallery.close()

    gallery = build(tmp_path)
    assert (gallery.manifest.generation, gallery.report.encoded, gallery.report.unchanged) == (1, 0, 40)
    gallery.close()
    # New, changed, touched, moved, gone, the same twice, spoilt.
    write_crop(crops / "100_c0.png", 100)
    write_crop(crops / names[0], 101)
    os.utime(crops / names[1], ns=(1, 1))
    os.rename(crops / names[2], crops / "moved_c1.png")
    (crops / names[3]).unlink()
    shutil.copy(crops / names[4], crops / "twin.png")
    (crops / "bad.jpg").write_bytes(b"no image")
    gallery = build(tmp_path)
    report = gallery.report
    assert (report.encoded, report.moved, report.removed, report.unchanged) == (2, 2, 2, 36)
    assert report.duplicates == {"twin.png": names[4]}
    assert report.unreadable.keys() == {"bad.jpg"}
    now = sorted({*names, "100_c0.png", "moved_c1.png"} - {names[2], names[3]})
    check(tmp_path, gallery, now)
    assert gallery.search("x", 1, 'path == "moved_c1.png"')[0].metadata == {"number": None, "camera": None}

    # What stood for the twin goes, and the spoilt one is put right.
    (crops / names[4]).unlink()
    write_crop(crops / "good.png", 102)
    (crops / "good.png").rename(crops / "bad.jpg")
    gallery.close()
    gallery = build(tmp_path)
    assert (gallery.report.encoded, gallery.report.moved) == (1, 1)
    now = sorted({*now, "twin.png", "bad.jpg"} - {names[4]})
    check(tmp_path, gallery, now)

    # By name.
    gallery.remove(now[:3])
    check(tmp_path, gallery, now[3:])
    assert gallery.report.removed == 3
    write_crop(crops / "200.png", 200)
    gallery.add([now[0], "200.png"])
    check(tmp_path, gallery, [now[0], *now[3:], "200.png"])
    gallery.close()
    opened = Gallery.open(tmp_path / "index")  # with the model that the index names
    check(tmp_path, opened, [now[0], *now[3:], "200.png"])
    opened.close()


@pytest.mark.parametrize("store", ["exact", "milvus"])
def test_metadata_changes_without_encoding(tmp_path, store):
    names = write_crops(tmp_path / "crops", 6)
    table = tmp_path / "meta.csv"
    table.write_text("path,camera,time\n" + "".join(f"{name},c{i},{i}\n" for i, name in enumerate(names[:5])))
    gallery = build(tmp_path, store, metadata=table)
    assert [hit.path for hit in gallery.search("x", 9, 'camera == "c1"')] == [names[1]]
    assert len(gallery.search("x", 9, "time >= 2")) == 3
    gallery.close()
    table.write_text("path,camera,time\n" + "".join(f"{name},{i},t\n" for i, name in enumerate(names)))
    gallery = build(tmp_path)  # texts became numbers, and numbers texts
    assert [hit.path for hit in gallery.search("x", 9, 'camera == 1 and time == "t"')] == [names[1]]
    gallery.close()
    table.write_text("path,camera\n" + "".join(f"{name},c{i % 2}\n" for i, name in enumerate(names)) + "gone,c1\n")
    gallery = build(tmp_path)
    assert (gallery.report.encoded, gallery.report.unknown_metadata) == (0, 1)
    assert sorted(hit.path for hit in gallery.search("x", 9, 'camera == "c1"')) == names[1::2]
    with pytest.raises(ValueError, match="there is no column 'time'"):
        gallery.search("x", 9, "time > 1")
    gallery.close()
    gallery = build(tmp_path, metadata="", pattern=PATTERN)
    assert gallery.columns == {"path": "text", "number": "number", "camera": "text"}
    assert len(gallery.search("x", 9, "number in [0, 3, 5, 77]")) == 3
    gallery.close()


def test_garbage_is_collected(tmp_path):
    names = write_crops(tmp_path / "crops", 20)
    gallery = build(tmp_path, "int8")
    gallery.remove(names[:4])
    assert gallery.manifest.slots == 20
    check(tmp_path, gallery, names[4:])
    gallery.remove(names[4:9])
    assert (gallery.manifest.slots, gallery.manifest.vectors) == (11, 1)
    check(tmp_path, gallery, names[9:])
    gallery.add(names[:2])
    check(tmp_path, gallery, [*names[:2], *names[9:]])
    assert {path.name for path in (tmp_path / "index").iterdir()} == {
        *("gallery.json", "vectors-1.f32", "rows-4.arrow", "search-4.faiss")
    }
    gallery.remove([*names[:2], *names[9:]])
    assert len(gallery) == 0
    assert gallery.search("a man") == []
    assert gallery.search(["a man", "a woman"], 5) == [[], []]
    gallery.add(names)
    check(tmp_path, gallery, names)


def test_queries_of_every_kind(tmp_path):
    names = write_crops(tmp_path / "crops", 30)
    gallery = build(tmp_path)
    sentences = ["a red coat", "a man", "blue trousers"]
    together = gallery.search(sentences, 5)
    for sentence, hits, single in zip(sentences, together, map(gallery.search, sentences)):
        assert [hit.path for hit in hits] == [hit.path for hit in single[:5]], sentence
    feats = inferencer().encode_text(sentences)
    assert [[hit.path for hit in hits] for hits in gallery.search(3 * feats, 5)] == [
        [hit.path for hit in hits] for hits in together
    ]
    assert len(gallery.search("x", 10_000)) == 30
    np.testing.assert_allclose(
        gallery.features(names[:3]), inferencer().encode_image([tmp_path / "crops" / n for n in names[:3]]), atol=1e-6
    )
    own = gallery.search(gallery.features([names[7]]), 1)[0][0]
    assert own.path == names[7]
    assert own.score == pytest.approx(1, abs=1e-6)
    assert names[7] not in [hit.path for hit in gallery.similar(names[7], 30)]
    assert len(gallery.similar(names[7], 30)) == 29
    finder = TextReIDInferencer(device="cpu")
    finder.open_gallery(tmp_path / "index")
    assert finder.search("a red coat", 5)[0].path == together[0][0].path
    for bad in (np.ones((1, 3)), np.full((1, 64), np.nan), np.zeros((1, 64)), np.ones(64)):
        with pytest.raises(ValueError, match="features"):
            gallery.search(bad)
    for topk in (0, -1, 10_001):
        with pytest.raises(ValueError, match="topk"):
            gallery.search("x", topk)


def test_nothing_but_images_of_the_gallery_is_given_out(tmp_path):
    names = write_crops(tmp_path / "crops", 4)
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "crops/notes.txt").write_text("secret")
    gallery = build(tmp_path)
    assert gallery.image_path(names[0]).read_bytes() == (tmp_path / "crops" / names[0]).read_bytes()
    outside = ("../secret.txt", "notes.txt", str(tmp_path / "secret.txt"), f"./{names[0]}", "", "\0", f"{names[0]}\0")
    for path in outside:
        with pytest.raises(KeyError, match="no image"):
            gallery.image_path(path)
        with pytest.raises(KeyError, match="no image"):
            gallery.features([path])
    (tmp_path / "crops" / names[0]).unlink()
    with pytest.raises(FileNotFoundError, match="is gone"):
        gallery.image_path(names[0])
    (tmp_path / "crops" / names[0]).symlink_to(tmp_path / "secret.txt")
    with pytest.raises(PermissionError, match="leads out"):
        gallery.image_path(names[0])
    assert names[0] in [hit.path for hit in gallery.search("x", 4)]  # until it is indexed again
    gallery = build(tmp_path)
    assert gallery.report.refused == {names[0]: "is a link out of the folder"}
    assert names[0] not in [hit.path for hit in gallery.search("x", 4)]


def test_another_model_folder_or_store_is_refused(tmp_path, monkeypatch):
    write_crops(tmp_path / "crops", 4)
    write_crops(tmp_path / "other", 4)
    build(tmp_path)
    other = TextReIDInferencer(device="cpu")
    monkeypatch.setitem(other.__dict__, "fingerprint", "0" * 64)
    with pytest.raises(ValueError, match="the vectors of another model"):
        Gallery.open(tmp_path / "index", other)
    with pytest.raises(ValueError, match="the vectors of another model"):
        Gallery.build(tmp_path / "crops", other, tmp_path / "index")
    with pytest.raises(ValueError, match="has folder"):
        Gallery.build(tmp_path / "other", inferencer(), tmp_path / "index")
    with pytest.raises(ValueError, match="has store 'exact', and 'int8'"):
        build(tmp_path, "int8")
    with pytest.raises(ValueError, match="lies in the folder"):
        Gallery.build(tmp_path / "crops", inferencer(), tmp_path / "crops/index")
    with pytest.raises(ValueError, match="must be one of"):
        Gallery.build(tmp_path / "crops", inferencer(), tmp_path / "another", store="fast")
    with pytest.raises(FileNotFoundError, match="holds no index"):
        Gallery.open(tmp_path / "nowhere", inferencer())


def test_a_damaged_index_is_refused_with_its_file(tmp_path):
    write_crops(tmp_path / "crops", 12)
    build(tmp_path, "int8")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()}
    state = json.loads(kept["gallery.json"])
    wrong = [json.dumps(dict(state, **change)).encode() for change in (
        {"format": 99}, {"slots": 10_000}, {"slots": -1}, {"dim": 0}, {"store": "other"}, {"generation": "1"}
    )]  # fmt: skip
    spoilt = [("gallery.json", content) for content in (b"", b"{", b"[]", b"{}", *wrong)]
    for name in ("rows-1.arrow", "vectors-0.f32", "search-1.faiss"):
        spoilt += [(name, kept[name][: len(kept[name]) // 2]), (name, b""), (name, b"x" * 100), (name, None)]
    for name, content in spoilt:
        path = tmp_path / "index" / name
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is damaged or not one of ours") as error:
            Gallery.open(tmp_path / "index", inferencer())
        assert str(tmp_path / "index") in str(error.value)
        path.write_bytes(kept[name])
    assert len(Gallery.open(tmp_path / "index", inferencer())) == 12


def test_searches_go_on_while_the_index_changes(tmp_path):
    names = write_crops(tmp_path / "crops", 24)
    reader, writer = build(tmp_path), Gallery.open(tmp_path / "index", inferencer())
    before = reader.search("a red coat", 24)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(reader.search, "a red coat", 24) for _ in range(50)]
        writer.remove(names[:12])  # the file of vectors is written anew
        answers += [pool.submit(reader.search, "a red coat", 24) for _ in range(50)]
        for answer in answers:
            assert [hit.path for hit in answer.result()] == [hit.path for hit in before]
    assert reader.refresh()
    assert not reader.refresh()
    assert sorted(hit.path for hit in reader.search("a red coat", 24)) == names[12:]


def test_two_at_once_are_refused(tmp_path):
    write_crops(tmp_path / "crops", 4)
    gallery = build(tmp_path)
    pid = os.fork()
    if pid == 0:
        with alone(gallery.path / LOCK):
            (tmp_path / "held").touch()
            while not (tmp_path / "done").exists():
                pass
        os._exit(0)
    try:
        while not (tmp_path / "held").exists():
            pass
        with pytest.raises(ValueError, match=rf"Another process changes the index .*process {pid} on"):
            build(tmp_path)
    finally:
        (tmp_path / "done").touch()
        os.waitpid(pid, 0)
    assert len(gallery.search("x", 9)) == 4


def test_large_galleries_keep_recall_in_lists(tmp_path):
    """IVF visits as few lists as reach the wanted recall, measured on features that cluster."""
    rng = np.random.default_rng(0)
    people = rng.standard_normal((400, 32))
    vectors = people[rng.integers(0, 400, 6000)] + 0.8 * rng.standard_normal((6000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    folder = IndexFolder(tmp_path)
    manifest = Manifest(root="", store="ivf", fingerprint="", dim=32, generation=1, slots=6000, images=5142)
    LocalStore(folder, manifest.with_(slots=0, generation=0)).write(0, vectors, pa.table({"path": []}))
    live = np.setdiff1d(np.arange(6000), np.arange(0, 6000, 7))
    ready, same = LocalStore(folder, manifest.with_(slots=0, generation=0)).publish(manifest, live, vectors[:50])
    np.testing.assert_array_equal(same, live)
    assert min(ready.recall.values()) >= TARGET_RECALL
    assert 8 <= ready.search["nprobe"] < 4 * 5142**0.5
    allowed = np.zeros(6000, bool)
    allowed[live] = True
    slots, scores = LocalStore(folder, ready).search(vectors[:30], 10, Selection(allowed))
    assert allowed[slots].all()
    np.testing.assert_allclose(np.einsum("qd,qkd->qk", vectors[:30], vectors[slots]), scores, atol=1e-6)
    few = allowed & (rng.random(6000) < 0.01)  # conditions that little fulfils, and pages far behind, find all there is
    wanted, _ = exact_search(vectors, vectors[:30], 10, few)
    slots, _ = LocalStore(folder, ready).search(vectors[:30], 10, Selection(few))
    assert (wanted[:, :, None] == slots[:, None]).any(2).mean() >= TARGET_RECALL
    assert (LocalStore(folder, ready).search(vectors[:2], 5000, Selection(allowed))[0] >= 0).all()
