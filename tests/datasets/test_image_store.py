"""Image stores: what was packed is what is read, from a disk and over byte ranges, and what is missing is named."""

import importlib.util
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import pseudo_collate
from PIL import Image
from small_pipelines import TEST, TRAIN
from torch.utils.data import DataLoader

from mmreid_text.datasets import (
    CUHKPEDES,
    CaptionTable,
    LUPersonMLLM,
    TextReIDDataset,
    image_packing,
    image_store,
    write_caption_table,
)
from mmreid_text.datasets.image_packing import REPORT, PackSettings, list_images, names_hash, pack_images
from mmreid_text.datasets.image_store import INDEX, INDEX_SCHEMA, ImageStore, name_hash
from mmreid_text.datasets.transforms.image import read_image

pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")
TOOL = Path(__file__).parents[2] / "tools/pack_images.py"


def write_images(root, number, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"{'abc'[i % 3]}/cam {i % 2}/{i:04d}.c1.jpg" for i in range(number)]
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (60 + i % 5, 30, 3), dtype=np.uint8)).save(root / name)
    return names


def pack(root, out, names=None, resize=None, shard_mb=0.02, **options):
    names = list_images(root) if names is None else pa.array(names, pa.large_string())
    return pack_images(
        names, PackSettings("people", str(root), names_hash(names), resize, 95, shard_mb), out, **options
    )


def table_of(names, root, captions=2):
    rows = [(i, name) for i, name in enumerate(names) for _ in range(captions)]
    columns = {
        "image": [name for _, name in rows],
        "caption": [f"A man in coat {i}." for i, _ in rows],
        "pid": [i // 2 for i, _ in rows],
        "image_id": [i for i, _ in rows],
    }
    return CaptionTable.from_columns(columns, "mine", str(root))


@pytest.fixture
def people(tmp_path):
    """Folder of images, their names, and a store of them in several shards."""
    names = write_images(tmp_path / "images", 40)
    assert pack(tmp_path / "images", tmp_path / "store", names) == {}
    return tmp_path / "images", names, tmp_path / "store"


def test_shards_are_plain_tar(people):
    root, names, out = people
    shards = sorted(out.glob("*.tar"))
    assert [path.name for path in shards] == [f"people-{i:06d}.tar" for i in range(len(shards))]
    assert len(shards) > 2
    listed = [
        subprocess.run(["tar", "tf", path], check=True, stdout=-1, text=True).stdout.split("\n") for path in shards
    ]
    assert [name for part in listed for name in part[:-1]] == names
    members = {}
    for path in shards:
        with tarfile.open(path) as tar:
            members.update({member.name: tar.extractfile(member).read() for member in tar})
    store = ImageStore(out)
    assert len(store) == len(names)
    for name in names:
        assert store.read(name) == members[name] == (root / name).read_bytes()
    assert {path.name for path in out.iterdir()} == {INDEX, REPORT, *(path.name for path in shards)}


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_name_is_found(tmp_path_factory, data):
    part = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=80)
    part = part.filter(lambda text: text not in (".", "..") and len(text.encode()) < 250)
    names = data.draw(st.lists(st.tuples(part, part).map("/".join), min_size=1, max_size=5, unique=True))
    clashes = data.draw(st.sampled_from([1, 2, 2**64]))
    root, out = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        for module in (image_store, image_packing):
            patch.setattr(module, "name_hash", lambda name: name_hash(name) % clashes)
        content = {}
        for i, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4 + i, 5)).save(root / name, "png")
            content[name] = (root / name).read_bytes()
        assert pack(root, out, names, shard_mb=data.draw(st.sampled_from([0.001, 1]))) == {}
        store = ImageStore(out)
        assert {name: store.read(name) for name in names} == content
        with pytest.raises(FileNotFoundError, match="is not in the store"):
            store.read("/".join(names) + "!")


@pytest.mark.parametrize(("context", "workers"), [(None, 0), ("fork", 2), ("spawn", 1)])
def test_folder_and_store_give_the_same_samples(cuhk_root, context, workers):
    root = cuhk_root / "CUHK-PEDES"
    moved = cuhk_root / "packed" / "CUHK-PEDES"
    pack(root / "imgs", moved / "imgs", resize=None)
    shutil.copy(root / "reid_raw.json", moved)
    modes = [("train", TRAIN, None), ("test", TEST, pseudo_collate)]
    for split, pipeline, collate in modes[: 1 if context == "spawn" else 2]:
        folder, store = (CUHKPEDES(path, split, pipeline) for path in (root, moved))
        options = {"batch_size": 3, "collate_fn": collate, "num_workers": workers, "multiprocessing_context": context}
        for expected, got in zip(DataLoader(folder, batch_size=3, collate_fn=collate), DataLoader(store, **options)):
            assert expected.keys() == got.keys()
            for key, value in expected.items():
                assert str(value) == str(got[key]), key
                if key == "image":
                    assert all(torch.equal(a, b) for a, b in zip(value, got[key]))
    shutil.rmtree(moved / "imgs")
    with pytest.raises(FileNotFoundError, match="image folder"):
        CUHKPEDES(moved, "train", TRAIN)


def test_published_readers_list_a_store(luperson_root):
    root = luperson_root / "LUPerson-MLLM"
    expected, inputs = LUPersonMLLM(root), LUPersonMLLM.inputs(root)
    pack(root / "images", luperson_root / "store")
    shutil.rmtree(root / "images")
    (luperson_root / "store").rename(root / "images")
    got = LUPersonMLLM(root, pipeline=[{"type": "LoadImage"}])
    assert got.fingerprint == expected.fingerprint
    assert LUPersonMLLM.inputs(root) == inputs  # a table that was prepared from the folder still fits
    assert got[5]["img"].shape[2] == 3


def test_stored_sizes(people, tmp_path):
    root, names, _ = people
    out = tmp_path / "small"
    Image.open(root / names[3]).resize((16, 48)).save(root / names[3])
    assert pack(root, out, names, resize=[48, 16]) == {}
    store = ImageStore(out)
    assert store.read(names[3]) == (root / names[3]).read_bytes()  # has the size already
    with tarfile.open(out / "people-000000.tar") as tar:
        stored = np.asarray(Image.open(tar.extractfile(names[0])))
    item = TextReIDDataset(table_of(names, out), TRAIN[:2])[0]
    np.testing.assert_array_equal(item["img"], stored)
    expected = np.asarray(Image.open(root / names[0]).resize((16, 48), Image.Resampling.BILINEAR))
    assert np.abs(stored.astype(int) - expected).mean() < 4  # of noise, the worst that JPEG can get


def test_what_is_missing_is_named(people):
    _, names, out = people
    store = ImageStore(out)
    with pytest.raises(FileNotFoundError, match=rf"a/none.jpg is not in the store.*{INDEX}, 40 images.*pack_images.py"):
        store.read("a/none.jpg")
    last = sorted(out.glob("*.tar"))[-1]
    last.write_bytes(last.read_bytes()[:700])
    with pytest.raises(OSError, match=rf"{last.name} ends within image {names[-1]}.*Copy the shard again"):
        store.read(names[-1])
    last.unlink()
    with pytest.raises(FileNotFoundError, match=rf"Shard .*{last.name}, which holds image {names[-1]}, does not exist"):
        ImageStore(out).read(names[-1])
    assert ImageStore(out).read(names[0])
    (out / INDEX).write_bytes((out / INDEX).read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{INDEX} is not a complete image index.*pack_images.py"):
        ImageStore(out)
    (out / INDEX).unlink()
    assert ImageStore.find(out) is None
    with pytest.raises(FileNotFoundError, match=f"has no {INDEX}"):
        ImageStore(out)


def test_few_files_stay_open(people, monkeypatch):
    root, names, out = people
    monkeypatch.setattr(image_store, "_MAX_OPEN", 2)
    store = ImageStore(out)
    before = len(os.listdir("/proc/self/fd"))
    for name in [*names, *names[::-1]]:
        assert store.read(name) == (root / name).read_bytes()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_unreadable_images_are_reported_then_mended(people, tmp_path):
    root, names, _ = people
    out = tmp_path / "other"
    whole = {name: (root / name).read_bytes() for name in (names[0], names[7], names[39])}
    (root / names[0]).write_bytes(whole[names[0]][:1500])
    (root / names[7]).write_text("no image")
    (root / names[39]).unlink()
    errors = pack(root, out, names)
    assert list(errors) == [names[0], names[7], names[39]]
    assert "truncated" in errors[names[0]]
    assert json.loads((out / REPORT).read_text()) == errors
    assert not (out / INDEX).exists()
    (root / names[7]).write_bytes(whole[names[7]])
    assert list(pack(root, out, names, skip_unreadable=True)) == [names[0], names[39]]
    store = ImageStore(out)
    assert len(store) == 38
    assert store.read(names[7]) == whole[names[7]]
    with pytest.raises(FileNotFoundError, match=rf"{names[0]} was left out .*when it was packed: .*truncated"):
        store.read(names[0])
    with pytest.warns(UserWarning, match=rf"2 images of mine were left out.*{names[0]}"):
        dataset = TextReIDDataset(table_of(names, out), TRAIN, test_mode=False)
    assert len(dataset) == 76
    assert dataset[0]["pid"] == 0
    assert len({int(dataset[i]["image_id"]) for i in range(76)}) == 38
    # A finished store takes what was mended later.
    for name, data in whole.items():
        (root / name).write_bytes(data)
    assert pack(root, out, names) == {}
    assert all(ImageStore(out).read(name) == (root / name).read_bytes() for name in names)
    assert json.loads((out / REPORT).read_text()) == {}


def test_other_settings_and_images_are_refused(people):
    root, names, out = people
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert pack(root, out, names) == {}  # nothing to do
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")} == before
    with pytest.raises(ValueError, match=r"resize=None, but resize=\[48, 16\] is asked for.*another folder"):
        pack(root, out, names, resize=[48, 16])
    with pytest.raises(ValueError, match="images="):
        pack(root, out, names[:-1])
    with pytest.raises(ValueError, match="no images"):
        pack(root, out, [])


class Slow(image_packing._Prepared):
    def __getitem__(self, index):
        time.sleep(0.01)
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_any_moment_it_goes_on_after_the_last_shard(people, tmp_path, monkeypatch, workers):
    root, names, _ = people
    out = tmp_path / "killed"
    (root / names[5]).write_text("no image")
    pack(root, tmp_path / "whole", names, skip_unreadable=True)
    monkeypatch.setattr(image_packing, "_Prepared", Slow)
    monkeypatch.setattr(image_packing, "_CHUNK", 2)
    rng = np.random.default_rng()
    kept = {}
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(
            target=pack, args=(root, out, names), kwargs={"workers": workers}
        )
        process.start()
        count = len(list(out.glob("*.rows")))
        deadline = time.monotonic() + 60
        while process.is_alive() and len(list(out.glob("*.rows"))) == count and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        for path, state in kept.items():
            assert path.stat().st_mtime_ns == state
        kept = {path.with_suffix(".tar"): path.with_suffix(".tar").stat().st_mtime_ns for path in out.glob("*.rows")}
        assert kept
        assert not (out / INDEX).exists()
    monkeypatch.undo()
    assert list(pack(root, out, names, workers=workers, skip_unreadable=True)) == [names[5]]
    for path, state in kept.items():
        assert path.stat().st_mtime_ns == state
    store, expected = ImageStore(out), ImageStore(tmp_path / "whole")
    assert len(store) == 39
    assert all(store.read(name) == expected.read(name) for name in names if name != names[5])


def test_two_runs_into_one_folder(people, tmp_path, tool, capsys):
    root, names, _ = people
    out = tmp_path / "both"
    started = multiprocessing.get_context("fork").Event()
    # Its workers are forked while it holds the lock, and live on for a while when it is killed.
    process = multiprocessing.get_context("fork").Process(target=pack_slowly, args=(root, out, names, started))
    process.start()
    assert started.wait(60)
    assert tool(root, "--out", out, "--workers", 0) == 2
    error = capsys.readouterr().err
    assert f"Another run is packing images into {out}: wait for it" in error
    assert f"(process {process.pid} on " in error
    assert not (out / INDEX).exists()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert pack(root, out, names) == {}
    assert all(ImageStore(out).read(name) == (root / name).read_bytes() for name in names)


def pack_slowly(root, out, names, started):
    class Signalling(Slow):
        def __getitem__(self, index):
            started.set()
            return super().__getitem__(index)

    image_packing._Prepared = Signalling
    image_packing._CHUNK = 2
    for _ in range(100):
        pack(root, out, names, workers=2)
        shutil.rmtree(out)


def test_a_killed_worker_ends_the_run(people, tmp_path, monkeypatch, tool, capsys):
    root, names, _ = people

    class Dies(image_packing._Prepared):
        def __getitem__(self, index):
            if index == 25 and (tmp_path / "deadly").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)

    monkeypatch.setattr(image_packing, "_Prepared", Dies)
    monkeypatch.setattr(image_packing, "_CHUNK", 2)
    (tmp_path / "deadly").touch()
    args = (root, "--out", tmp_path / "other", "--workers", 2, "--shard-mb", 0.02)
    assert tool(*args) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: A process that was decoding images ended abruptly")
    assert error.endswith("--workers.")
    shards = list((tmp_path / "other").glob("*.rows"))
    assert shards
    (tmp_path / "deadly").unlink()
    assert tool(*args) == 0
    assert len(ImageStore(tmp_path / "other")) == len(names)


def test_byte_ranges_of_an_object_store(people, tmp_path, monkeypatch):
    root, names, out = people
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = f"memory://{tmp_path.name}/people"
    with pytest.raises(FileNotFoundError, match=f"memory://.* has no {INDEX}"):
        ImageStore(url)
    fsspec.filesystem("memory").put(f"{out}/", f"{url}/", recursive=True)
    folder = TextReIDDataset(table_of(names, root), TRAIN)
    remote = TextReIDDataset(table_of(names, "unused"), TRAIN, image_root=url)
    for dataset in (remote, pickle.loads(pickle.dumps(remote))):
        for i in range(0, 80, 9):
            assert torch.equal(folder[i]["image"], dataset[i]["image"])
    for batch in DataLoader(remote, batch_size=40, num_workers=1, multiprocessing_context="fork"):
        assert batch["image"].shape == (40, 3, 48, 16)
    assert len(list((tmp_path / "cache/mmreid_text").iterdir())) == 1
    with pytest.raises(FileNotFoundError, match=r"none\.jpg is not in the store"):
        remote._store.read("none.jpg")
    fsspec.filesystem("memory").rm(f"{url}/people-000000.tar")
    with pytest.raises(FileNotFoundError, match=rf"Shard memory://.*people-000000.tar, which holds image {names[0]}"):
        remote._store.read(names[0])


def test_the_index_takes_no_memory_of_a_worker(tmp_path):
    for task in (
        write_large_index,
        own_memory_of_reading,
    ):  # a process each, or one would use memory freed by the other
        with multiprocessing.get_context("fork").Pool(1) as pool:
            result = pool.apply(task, (tmp_path,))
    assert (tmp_path / INDEX).stat().st_size > 15e6
    assert result < 3e6


def write_large_index(root):
    count = 300_000
    names = [f"folder/{i:08d}.jpg" for i in range(count)]
    hashes = np.array([name_hash(name) for name in names], dtype=np.uint64)
    columns = [hashes, pa.array(names, pa.large_string()), np.zeros(count), np.arange(count), np.ones(count)]
    arrays = [pa.array(column).cast(field.type) for column, field in zip(columns, INDEX_SCHEMA)]
    rows = pa.table([*arrays, [""] * count], schema=INDEX_SCHEMA)
    info = {"shards": ["a.tar"], "left_out": 0}
    image_packing.write_rows(root / INDEX, rows.take(pa.array(np.argsort(hashes))).combine_chunks(), info)
    (root / "a.tar").write_bytes(bytes(count + 1))


def own_memory_of_reading(root):
    def own():  # the rest is the page cache's, which all processes share
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

    before = own()
    store = ImageStore(root)
    assert all(store.read(f"folder/{i:08d}.jpg") == b"\0" for i in range(0, 300_000, 100))
    return own() - before


@pytest.fixture
def tool(monkeypatch):
    spec = importlib.util.spec_from_file_location("pack_images_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["pack_images.py", *map(str, args)])
        return module.main()

    return run


def test_the_tool(cuhk_root, tmp_path, tool, capsys):
    root = cuhk_root / "CUHK-PEDES"
    out = tmp_path / "packed"
    table = CUHKPEDES.load(root)
    options = ["--out", out, "--workers", 1, "--shard-mb", 0.01]
    write_caption_table(tmp_path / "t.arrow", table.columns(), "cuhk_pedes", table.image_root)
    bad = root / "imgs" / table.image(0)
    whole = bad.read_bytes()
    bad.write_bytes(whole[:300])
    assert tool(tmp_path / "t.arrow", *options) == 1
    assert "1 of 24 images cannot be read" in capsys.readouterr().err
    assert tool(tmp_path / "t.arrow", *options, "--skip-unreadable") == 0
    assert "23 images" in capsys.readouterr().out
    bad.write_bytes(whole)
    assert tool(tmp_path / "t.arrow", *options) == 0
    store = ImageStore(out)
    assert len(store) == 24
    assert len(store.index.shards) > 1
    assert all(store.read(name) == (root / "imgs" / name).read_bytes() for name in table.images())
    assert tool(root / "imgs", "--out", tmp_path / "small", "--workers", 0, "--resize", 48, 16) == 0
    names = list(table.images())
    assert ImageStore(tmp_path / "small").index.shards == ["imgs-000000.tar"]
    (tmp_path / "x.jpg").write_bytes(ImageStore(tmp_path / "small").read(names[0]))
    assert read_image(str(tmp_path / "x.jpg")).shape == (48, 16, 3)
    for args, message in [
        ([tmp_path / "none.arrow", "--out", out], "does not exist"),
        ([out, "--out", tmp_path / "again"], "is an image store of 24 images already"),
        ([tmp_path / "t.arrow", "--image-root", "gone", "--out", out], "The image folder gone"),
        ([root / "imgs", "--image-root", root, "--out", out], "belongs to a caption table"),
        ([root / "imgs", "--out", out], "holds a store with name='cuhk_pedes'"),
    ]:
        assert tool(*args) == 2
        assert message in capsys.readouterr().err
