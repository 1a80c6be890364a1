"""Indexing that is killed at any moment: the index opens as it was before or after, and the next run completes it."""

import os
import random
import shutil
import signal
import time
import traceback

import numpy as np
import pytest
import torch
from gallery_crops import inferencer, write_crop, write_crops

from mmreid_text.apis import Gallery
from mmreid_text.gallery import indexing
from mmreid_text.gallery.index_folder import Journal

pytest.importorskip("faiss")
OPERATIONS = ("replace", "unlink", "write", "pwrite", "truncate", "fsync")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow where many tests run, and no power is cut here
    monkeypatch.setattr(indexing, "SENTENCES", indexing.SENTENCES[:4])


def build(folder, store=None):
    return Gallery.build(folder / "crops", inferencer(), folder / "index", store, batch_size=4, jobs=1)


def kill_before(event):
    """From now on, die before the file operation of this number, counted from 0."""
    count = -1

    def guarded(operation):
        def run(*args, **kwargs):
            nonlocal count
            count += 1
            if count == event:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return run

    for name in OPERATIONS:
        setattr(os, name, guarded(getattr(os, name)))


def fork(task):
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        try:
            task()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def killed(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def content(gallery):
    """Vectors by path, which a search can find."""
    names = gallery.table.column("path").to_pylist()
    hits = gallery.search("a man", 1000)
    assert sorted(hit.path for hit in hits) == sorted(names)
    assert len(gallery) == len(names)
    return dict(zip(names, gallery.features(names)))


def same(one, other):
    return one.keys() == other.keys() and all(np.allclose(one[name], other[name], atol=1e-5) for name in one)


def wanted(folder):
    """What an index of the folder must hold; no two of its files have the same content."""
    names = sorted(os.path.relpath(path, folder / "crops") for path in (folder / "crops").rglob("*.png"))
    return dict(zip(names, inferencer().encode_image([folder / "crops" / name for name in names])))


def change(folder, seed):
    """One image more, one changed, one moved, two gone; now and then many gone, so that the vectors are compacted."""
    rng = random.Random(seed)
    paths = sorted((folder / "crops").rglob("*.png"))
    rng.shuffle(paths)
    for path in paths[4 : 12 if seed % 3 == 2 else 6]:
        path.unlink()
    write_crop(paths[0], 1000 + seed)
    paths[1].rename(folder / "crops" / f"moved_{seed}.png")
    while len(list((folder / "crops").rglob("*.png"))) < 14:
        write_crop(folder / "crops" / f"{rng.random()}.png", rng.randrange(10**9))
    write_crop(folder / "crops" / f"new_{seed}.png", 2000 + seed)


@pytest.mark.parametrize(("store", "step"), [("exact", 1), ("ivf", 3)])
def test_killed_before_any_file_operation(tmp_path, store, step):
    begin = tmp_path / "begin"
    write_crops(begin / "crops", 14)
    before = content(build(begin, store))
    change(begin, 2)
    after = wanted(begin)
    states = set()
    for event in range(0, 200, step):
        folder = tmp_path / str(event)
        shutil.copytree(begin / "index", folder / "index")
        (folder / "crops").symlink_to(begin / "crops")
        root = begin / "crops"

        def run(folder=folder, event=event, root=root):
            kill_before(event)
            Gallery.build(root, inferencer(), folder / "index", batch_size=4, jobs=1)

        stopped = killed(fork(run))
        found = content(Gallery.open(folder / "index", inferencer()))
        assert same(found, before) or same(found, after), f"killed before operation {event}"
        states.add(same(found, after))
        gallery = Gallery.build(root, inferencer(), folder / "index", batch_size=4, jobs=1)
        assert same(content(gallery), after), f"killed before operation {event}"
        left = {path.name.rstrip("0123456789.").partition("-")[0] for path in (folder / "index").iterdir()}
        assert not any(name.startswith(".") for name in left)
        shutil.rmtree(folder)
        if not stopped:
            break
    assert event > 15
    assert states == {False, True}


def test_killed_fifty_times_at_random(tmp_path):
    write_crops(tmp_path / "crops", 14)
    rng, kills, turns = random.Random(0), 0, 0
    before, after, seconds = {}, wanted(tmp_path), 0.1
    while kills < 50 or before is not after:
        pid = fork(lambda: build(tmp_path))
        if kills < 50:
            time.sleep(rng.uniform(0.0, seconds))
            os.kill(pid, signal.SIGKILL)
        kills += killed(pid)
        if (tmp_path / "index/gallery.json").exists():  # else the first run was killed before it began
            found = content(Gallery.open(tmp_path / "index", inferencer()))
            done = same(found, after)
            assert done or same(found, before), f"after {kills} kills"
            if done:
                before, turns, seconds = after, turns + 1, 0.1
                if kills < 50:
                    change(tmp_path, turns)
                    after = wanted(tmp_path)
        seconds *= 1.1  # until a run ends, however busy the machine is
    assert turns >= 2


def test_a_long_run_goes_on_where_it_was(tmp_path):
    write_crops(tmp_path / "crops", 30)

    def run():
        encode = inferencer().encode_prepared
        batches = []

        def encode_prepared(samples):
            batches.append(len(samples))
            if len(batches) == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(samples)

        inferencer().encode_prepared = encode_prepared
        build(tmp_path)

    assert killed(fork(run))
    assert len(Gallery.open(tmp_path / "index", inferencer())) == 0
    write_crop(tmp_path / "crops/000_c0.png", 77)  # encoded before the kill, and changed since
    journal = (tmp_path / "index/journal.jsonl").read_bytes()
    (tmp_path / "index/journal.jsonl").write_bytes(journal[:-20])  # the last batch was half written
    gallery = build(tmp_path)
    assert (gallery.report.resumed, gallery.report.encoded) == (15, 15)
    assert same(content(gallery), wanted(tmp_path))
    assert not (tmp_path / "index/journal.jsonl").exists()


def test_a_duplicate_whose_original_changed_before_the_kill_is_found(tmp_path):
    write_crops(tmp_path / "crops", 3)
    shutil.copy(tmp_path / "crops/000_c0.png", tmp_path / "crops/twin.png")
    assert build(tmp_path).report.duplicates == {"twin.png": "000_c0.png"}
    write_crop(tmp_path / "crops/000_c0.png", 77)

    def run():
        write = Journal.write
        Journal.write = lambda *args: (write(*args), os.kill(os.getpid(), signal.SIGKILL))
        Gallery.build(tmp_path / "crops", inferencer(), tmp_path / "index", batch_size=1, jobs=1)

    assert killed(fork(run))
    gallery = build(tmp_path)
    assert gallery.report.duplicates == {}
    assert same(content(gallery), wanted(tmp_path))


def test_what_was_spoilt_since_is_not_taken_over(tmp_path):
    write_crops(tmp_path / "crops", 12)

    def run():
        kill_before(20)
        build(tmp_path)

    assert killed(fork(run))
    vectors = tmp_path / "index/vectors-0.f32"
    data = bytearray(vectors.read_bytes())
    data[4 * 64 * 4 : 5 * 64 * 4] = bytes(256)  # in the second batch
    vectors.write_bytes(data)
    gallery = build(tmp_path)
    assert gallery.report.resumed == 4
    assert same(content(gallery), wanted(tmp_path))
