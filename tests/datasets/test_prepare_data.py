import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from mmreid_text.datasets import CaptionTable, LUPersonMLLM, caption_tokens, luperson_mllm, sorted_runs
from mmreid_text.datasets.work_folder import work_folder
from mmreid_text.file_lock import alone

TOOL = Path(__file__).parents[2] / "tools/prepare_data.py"
pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")


@pytest.fixture
def prepare(monkeypatch):
    """The tool's main function, called with command-line arguments in this process."""
    spec = importlib.util.spec_from_file_location("prepare_data", TOOL)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "prepare_data", module)  # its processes look the function up by name
    spec.loader.exec_module(module)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["prepare_data.py", *map(str, args)])
        return module.main()

    call.module = module
    return call


def test_every_format_becomes_a_table(prepare, cuhk_root, icfg_root, rstp_root, luperson_root, tmp_path, capsys):
    roots = {
        "cuhk_pedes": cuhk_root / "CUHK-PEDES",
        "icfg_pedes": icfg_root / "ICFG-PEDES",
        "rstpreid": rstp_root / "RSTPReid",
        "luperson_mllm": luperson_root / "LUPerson-MLLM",
    }
    for name, captions in {"cuhk_pedes": 48, "icfg_pedes": 24, "rstpreid": 120, "luperson_mllm": 128}.items():
        out = tmp_path / f"{name}.arrow"
        assert prepare(name, roots[name], "--out", out) == 0
        assert len(CaptionTable.open(out)) == captions
        printed = capsys.readouterr()
        assert f"{captions} captions" in printed.out
        assert "published: " in printed.out
        assert "captions/s" in printed.err  # rate; tqdm shows the ETA beside it
        state = out.stat()
        assert prepare(name, roots[name], "--out", out) == 0
        assert "complete and matches" in capsys.readouterr().out
        assert out.stat().st_mtime_ns == state.st_mtime_ns
    files = [f"{name}.arrow{suffix}" for name in roots for suffix in ("", ".tokens")]
    assert sorted(p.name for p in tmp_path.glob("*.arrow*")) == sorted(files)


def test_changed_files_are_prepared_anew(prepare, luperson_root, tmp_path, capsys):
    root, out = luperson_root / "LUPerson-MLLM", tmp_path / "t.arrow"
    prepare("luperson_mllm", root, "--out", out)
    (root / "images/000000_0.jpg").unlink()
    assert prepare("luperson_mllm", root, "--out", out) == 0
    assert "made from other files" in capsys.readouterr().out
    assert LUPersonMLLM(root, table=out).num_images == 31


def test_the_default_table_is_found_by_the_dataset(prepare, luperson_root, capsys):
    root = luperson_root / "LUPerson-MLLM"
    assert prepare("luperson_mllm", root) == 0
    assert prepare("luperson_mllm", root) == 0
    assert f"{root}.arrow is complete and matches" in capsys.readouterr().out
    assert LUPersonMLLM(root).table.path == f"{root}.arrow"
    (root / "images/000000_0.jpg").unlink()
    assert LUPersonMLLM(root).table.path is None


def test_errors_end_with_one_line(prepare, cuhk_root, rstp_root, tmp_path, capsys):
    out = tmp_path / "t.arrow"
    assert prepare("cuhk_pedes", tmp_path / "nowhere", "--out", out) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: CUHK-PEDES: the data folder")
    assert error.count("\n") == 1
    assert prepare("cuhk_pedes", cuhk_root / "CUHK-PEDES", "--out", out) == 0
    assert prepare("rstpreid", rstp_root / "RSTPReid", "--out", out) == 2
    assert "t.arrow is the table of 'cuhk_pedes', not of 'rstpreid'" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", [1, 2])
def test_check_images_names_unreadable_files(jobs, prepare, cuhk_root, tmp_path, capsys):
    root, out = cuhk_root / "CUHK-PEDES", tmp_path / "t.arrow"
    cut = root / "imgs/cam_a/0000_0.jpg"
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    check = ("cuhk_pedes", root, "--out", out, "--check-images", "--jobs", jobs)
    assert prepare(*check) == 1
    printed = capsys.readouterr()
    assert "unreadable: cam_a/0000_0.jpg: image file is truncated" in printed.out
    assert "24 images checked, 1 unreadable" in printed.out
    assert "24/24" in printed.err
    cut.write_bytes(whole)
    assert prepare(*check) == 0
    assert "24 images checked, 0 unreadable" in capsys.readouterr().out


def test_check_images_goes_on_where_it_stopped(prepare, rstp_root, tmp_path, monkeypatch, capsys):
    root, out = rstp_root / "RSTPReid", tmp_path / "t.arrow"
    monkeypatch.setattr(prepare.module, "CHECK_BLOCK", 10)
    real, calls = prepare.module.read_image, []

    def stops_at_35(path):
        calls.append(path)
        if len(calls) == 35:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(prepare.module, "read_image", stops_at_35)
    check = ("rstpreid", root, "--out", out, "--check-images", "--jobs", "1")
    with pytest.raises(KeyboardInterrupt):
        prepare(*check)
    assert json.loads((tmp_path / "t.arrow.check.json").read_text())["checked"] == 30
    assert prepare(*check) == 0
    assert len(calls) == 35 + 30
    assert len(set(calls)) == 60
    assert "60 images checked, 0 unreadable" in capsys.readouterr().out


def test_check_images_ends_where_a_process_was_killed_and_goes_on(prepare, rstp_root, tmp_path, monkeypatch, capsys):
    root, out = rstp_root / "RSTPReid", tmp_path / "t.arrow"
    monkeypatch.setattr(prepare.module, "CHECK_BLOCK", 10)
    monkeypatch.setattr(prepare.module, "CHUNK", 2)
    assert prepare("rstpreid", root, "--out", out) == 0
    real, deadly = prepare.module.read_image, list(CaptionTable.open(out).images())[45]

    def dies(path):
        if path.endswith(deadly):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path)

    check = ("rstpreid", root, "--out", out, "--check-images", "--jobs", "2")
    with monkeypatch.context() as patch:
        patch.setattr(prepare.module, "read_image", dies)
        assert prepare(*check) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: A process that was decoding images ended abruptly")
    assert "memory" in error
    checked = json.loads((tmp_path / "t.arrow.check.json").read_text())["checked"]
    assert checked in range(10, 50, 10)
    assert prepare(*check) == 0
    printed = capsys.readouterr()
    assert "60 images checked, 0 unreadable" in printed.out
    assert f"{checked}/60" in printed.err


def test_killed_while_writing_leaves_nothing_half(prepare, luperson_root, tmp_path, capsys):
    root, out = luperson_root / "LUPerson-MLLM", tmp_path / "t.arrow"
    names = [f"{i:06d}.jpg" for i in range(15_000)]
    for name in names:
        (root / "images" / name).touch()
    for source in luperson_sources(root):
        source.write_text(json.dumps({f"/x/{name}": "A caption of some length." for name in names}))
    command = [sys.executable, str(TOOL), "luperson_mllm", str(root), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "t.arrow.body").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    assert prepare(*command[2:]) == 0
    assert "60,000 captions" in capsys.readouterr().out
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith("t.arrow")) == ["t.arrow", "t.arrow.tokens"]
    assert len(CaptionTable.open(out)) == 60_000


def big_luperson(root, images):
    """More images than a few chunks hold, with strangers, doubles, dirty captions and images that lack some."""
    names = [f"{(7919 * i) % 1_000_003:07d}.jpg" for i in range(images)]
    for name in names:
        (root / "images" / name).touch()
    for k, source in enumerate(luperson_sources(root)):
        texts = {f"/x/{name}": f"{source.stem} {i}" for i, name in enumerate(names) if i % 11 != k}
        texts |= {f"/x/{name}": "<unk>" for name in names[k::13]} | {f"/y/{name}": "again" for name in names[::17]}
        source.write_text(json.dumps({**texts, "/x/stranger.jpg": "?"}))


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(luperson_mllm, "CHUNK_IMAGES", 50)
    monkeypatch.setattr(sorted_runs, "RUN_NAMES", 1_000)
    monkeypatch.setattr(sorted_runs, "RUN_CAPTIONS", 100)
    monkeypatch.setattr(caption_tokens, "CHUNK_ROWS", 200)


def test_a_kill_in_any_phase_loses_a_chunk_at_most(prepare, luperson_root, tmp_path, monkeypatch, small_chunks):
    root, out, other = luperson_root / "LUPerson-MLLM", tmp_path / "t.arrow", tmp_path / "u.arrow"
    big_luperson(root, 400)
    direct = LUPersonMLLM.load(root)
    files, real, after = [], os.replace, 1

    def stops_behind(source, target):
        """Stop behind every third file that is finished, as a kill would."""
        real(source, target)
        files.append(os.path.basename(target))
        if len(files) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stops_behind)
    stops = 0
    while stops < 100:
        after = len(files) + 3
        try:
            assert prepare("luperson_mllm", root, "--out", out, "--jobs", 1) == 0
            break
        except KeyboardInterrupt:
            stops += 1
    assert 8 <= stops < 100
    assert len(set(files)) == len(files)  # nothing that was finished was made again
    table = CaptionTable.open(out)
    assert table.fingerprint == direct.fingerprint
    assert table.info["notes"] == direct.info["notes"]
    assert not list(tmp_path.glob("*.work"))
    monkeypatch.setattr(os, "replace", real)
    prepare("luperson_mllm", root, "--out", other)
    assert other.read_bytes() == out.read_bytes()


def stop_while_writing(prepare, monkeypatch, root, out):
    """Prepare LUPerson-MLLM up to the first row of its table."""
    with monkeypatch.context() as patch:
        patch.setattr(prepare.module, "write_caption_table", lambda *args: next(iter(args[1])) and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare("luperson_mllm", root, "--out", out)


def test_changed_files_are_not_gone_on_with(prepare, luperson_root, tmp_path, monkeypatch, small_chunks):
    root, out = luperson_root / "LUPerson-MLLM", tmp_path / "t.arrow"
    big_luperson(root, 200)
    stop_while_writing(prepare, monkeypatch, root, out)
    assert (tmp_path / "t.arrow.work/rows-00000.arrow").exists()
    path = luperson_sources(root)[0]
    path.write_text(path.read_text().replace("Td-qwen 5", "another text"))
    assert prepare("luperson_mllm", root, "--out", out) == 0
    assert CaptionTable.open(out).fingerprint == LUPersonMLLM.load(root).fingerprint


def test_other_images_of_the_same_number_are_not_gone_on_with(
    prepare, luperson_root, tmp_path, monkeypatch, small_chunks, capsys
):
    root, out = luperson_root / "LUPerson-MLLM", tmp_path / "t.arrow"
    big_luperson(root, 200)
    stop_while_writing(prepare, monkeypatch, root, out)
    first, last = (sorted((root / "images").iterdir())[i] for i in (0, -1))
    first.rename(first.with_name("0000000_new.jpg"))
    assert prepare("luperson_mllm", root, "--out", out) == 0
    assert CaptionTable.open(out).fingerprint == LUPersonMLLM.load(root).fingerprint
    capsys.readouterr()
    shutil.copy(last, root / "other.jpg")  # listed in another order, the same names are the same inputs
    last.unlink()
    shutil.move(root / "other.jpg", last)
    assert prepare("luperson_mllm", root, "--out", out) == 0
    assert "nothing to write" in capsys.readouterr().out
    last.rename(last.with_name("9999999_new.jpg"))  # nor is a finished table taken
    assert prepare("luperson_mllm", root, "--out", out) == 0
    assert "made from other files" in capsys.readouterr().out
    assert CaptionTable.open(out).fingerprint == LUPersonMLLM.load(root).fingerprint
    (root / "images" / os.fsdecode(b"\xff.jpg")).touch()
    assert prepare("luperson_mllm", root, "--out", out) == 2
    assert r"the file name '\udcff.jpg' is no Unicode text; rename the file" in capsys.readouterr().err


def test_two_writers_of_one_table_are_refused(prepare, luperson_root, tmp_path, capsys):
    out = tmp_path / "t.arrow"
    with work_folder(out, {}):
        assert prepare("luperson_mllm", luperson_root / "LUPerson-MLLM", "--out", out) == 2
    assert "Another process is writing" in capsys.readouterr().err
    with alone(tmp_path / "t.arrow.tokens.lock"):
        assert prepare("luperson_mllm", luperson_root / "LUPerson-MLLM", "--out", out) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"Another process is writing .*t\.arrow\.tokens: .* again \(process \d+ on ", error)
    assert prepare("luperson_mllm", luperson_root / "LUPerson-MLLM", "--out", out) == 0
    assert not list(tmp_path.glob("*.lock"))


def test_memory_does_not_grow_with_the_files(prepare, luperson_root, tmp_path, small_chunks):
    root, peaks = luperson_root / "LUPerson-MLLM", []
    for images in (300, 3_000):
        big_luperson(root, images)
        tracemalloc.start()
        arrow = pa.default_memory_pool()
        before, most = arrow.bytes_allocated(), 0
        tree = LUPersonMLLM.read(root, make_folder(tmp_path / str(images)))
        for _ in tree.chunks:
            most = max(most, arrow.bytes_allocated() - before)
        peaks.append(tracemalloc.get_traced_memory()[1] + most)
        tracemalloc.stop()
    # The files are ten times as large and take 1 MB more.
    assert peaks[1] - peaks[0] < 300_000, f"{peaks[0]:,} and {peaks[1]:,} bytes"


def make_folder(path):
    path.mkdir()
    return path


def luperson_sources(root):
    return sorted((root / "captions").glob("*.json"))
