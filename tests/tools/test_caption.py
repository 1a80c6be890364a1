"""The captioning tool as users call it, against a server over real HTTP."""

import json
import re
from collections import Counter

import pytest
from caption_runs import decided, kill, rows_of, start, tool, wait, wait_until, write_config
from caption_server import Behaviour, caption_of, caption_server, write_images

from mmreid_text.captioning.shards import JobFolder
from mmreid_text.datasets import CaptionTable, LUPersonMLLM, TextReIDDataset
from mmreid_text.procedural.export import export

pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")
KINDS = {"Ts-qwen": "static", "Td-qwen": "dynamic"}
WORD = re.compile(r"[a-z]+", re.IGNORECASE)
SEX = re.compile(r"(man|male|gentleman|guy|boy)$", re.IGNORECASE)
HER = re.compile(r"(woman|female|lady|girl)$", re.IGNORECASE)
KEY = "sk-a-secret-that-nobody-may-see"


def number_of(image):
    return int(image.partition(".")[0])


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def leftovers(out):
    return [path for name in ("claims", "journals", "workers") for path in (out / name).iterdir()]


def test_killed_three_times_beside_a_second_process_nothing_is_lost_or_doubled(tmp_path):
    count, refused, bad = 5000, frozenset(range(7, 5000, 500)), frozenset(range(11, 5000, 1000))
    write_images(tmp_path / "images", count)
    behaviour = Behaviour(share=0.08, refused=refused, bad=bad, delay=0.2)
    out = tmp_path / "out"
    with caption_server(behaviour) as server:
        config = write_config(tmp_path / "job.py", tmp_path / "images", server.url, shard_size=64, re_asks=3)
        second = start(config, "--out", out)
        for part in range(1, 4):
            first = start(config, "--out", out)
            wait_until(lambda part=part: decided(out) > part * 2 * count // 5 if out.exists() else False)
            kill(first, group=part != 2)  # once the parent alone: its worker ends with it
        first = start(config, "--out", out)
        assert (wait(first), wait(second)) == (0, 0)
        stats = server.stats()
    rows = rows_of(out)
    assert len(rows) == 2 * count
    assert all(len(told) == 1 for told in rows.values())
    for (image, source), (row,) in rows.items():
        number = number_of(image)
        if number in refused:
            assert (row["status"], row["reason"], row["attempts"]) == ("failed", "refusal", 4)
            assert len(row["rejected"]) == 4
        elif number in bad:
            assert (row["status"], row["reason"]) == ("failed", "request")
        else:
            assert row["caption"] == caption_of(number, KINDS[source]) or row["status"] == "replaced", row
    assert all(stats[fault] > 10 for fault in behaviour.faults)
    # Only what was under way at a kill is asked for again.
    good = sum(row["status"] == "ok" for (row,) in rows.values())
    assert good <= stats["captions"] <= good + 3 * 32 + stats["cut short"]
    table = CaptionTable.open(tmp_path / "out.arrow")
    assert len(table) == 2 * (count - len(refused | bad))
    assert sorted({*map(number_of, table.images())} | refused | bad) == list(range(count))
    failed = lines_of(out / "failed.jsonl")
    assert sorted((line["image"], line["source"]) for line in failed) == sorted(
        key for key, (row,) in rows.items() if row["status"] == "failed"
    )
    assert not leftovers(out)


def test_a_process_that_ends_after_the_table_was_joined_leaves_nothing_behind(tmp_path):
    write_images(tmp_path / "images", 8)
    out = tmp_path / "out"
    with caption_server(Behaviour()) as server:
        config = write_config(tmp_path / "job.py", tmp_path / "images", server.url)
        assert tool.main([str(config), "--out", str(out)]) == 0
        table = (tmp_path / "out.arrow").read_bytes()
        late = JobFolder(out, shard_size=64, stale_after=60)
        late.tell({0: Counter(ok=3)})
        late.claims.take(0, {})
        late.journal(0).close()
        assert len(leftovers(out)) == 3
        assert tool.main([str(config), "--out", str(out)]) == 0
    assert not leftovers(out)
    assert (tmp_path / "out.arrow").read_bytes() == table


def test_a_job_from_end_to_end(tmp_path, capsys):
    root = tmp_path / "LUPerson-MLLM"
    write_images(root / "images", 60)
    faults = Behaviour(share=0.3, faults=("brackets", "refused", "empty", "length"))
    with caption_server(faults) as server:
        config = write_config(tmp_path / "job.py", root / "images", server.url, shard_size=16, re_asks=1)
        assert tool.main([str(config), "--out", str(tmp_path / "out"), "--workers", "2", "--publish", str(root)]) == 0
        asked = server.stats()["requests"]
        table = (tmp_path / "out.arrow").read_bytes()
        assert tool.main([str(config), "--out", str(tmp_path / "out")]) == 0  # all is there
        assert server.stats()["requests"] == asked
    assert (tmp_path / "out.arrow").read_bytes() == table
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out/report.json").read_text())
    total, rules = report["total"], report["cleaning"]["rules"]
    assert total["answers"] == asked
    assert total["prompt_tokens"] == 100 * asked
    assert total["ok"] + total["replaced"] + total["failed"] == 120
    assert total["replaced"] > 0
    assert f"{total['replaced']:,} of them static stand-ins" in printed
    rows = rows_of(tmp_path / "out")
    for (image, source), (row,) in rows.items():
        if row["status"] == "replaced":
            assert source == "Td-qwen"
            assert row["caption"] == caption_of(number_of(image), "static")
            assert len(row["rejected"]) == 2
    rejected = [line for source in KINDS for line in lines_of(tmp_path / f"out/rejected-{source}.jsonl")]
    assert {line["rule"] for line in rejected} == {"brackets", "refusal", "empty", "cut"}
    assert len(rejected) == report["cleaning"]["rejected"] == asked - total["ok"]
    assert rules["brackets"]["count"] == sum(line["rule"] == "brackets" for line in rejected)
    # What was published reads as LUPerson-MLLM does, and says what the table says.
    table = CaptionTable.open(tmp_path / "out.arrow")
    again = LUPersonMLLM(root).table
    assert [table.caption(i) for i in range(len(table))] == [again.caption(i) for i in range(len(again))]
    assert table.pid.tolist() == again.pid.tolist()
    assert table.sources == ["Ts-qwen", "Td-qwen"]
    assert table.image_root == str(root / "images")


def test_templates_are_chosen_by_seed_alone(tmp_path):
    write_images(tmp_path / "images", 40)
    chosen = []
    with caption_server(Behaviour()) as server:
        for name, seed, workers in (("a", 0, 1), ("b", 0, 2), ("c", 1, 1)):
            config = write_config(tmp_path / "job.py", tmp_path / "images", server.url, seed=seed, shard_size=8)
            assert tool.main([str(config), "--out", str(tmp_path / name), "--workers", str(workers)]) == 0
            chosen.append({key: row["template"] for key, (row,) in rows_of(tmp_path / name).items()})
    assert chosen[0] == chosen[1] != chosen[2]
    assert {template for (_, source), template in chosen[0].items() if source == "Ts-qwen"} == {-1}
    assert len({template for (_, source), template in chosen[0].items() if source == "Td-qwen"}) > 15


def test_secrets_stand_nowhere(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("CAPTION_TEST_KEY", KEY)
    write_images(tmp_path / "images", 30)
    key = dict(api_key_env="CAPTION_TEST_KEY", max_tries=2)
    behaviour = Behaviour(share=0.5, key=KEY, echo=True, bad=frozenset({3}))
    with caption_server(behaviour) as server:
        config = write_config(tmp_path / "job.py", tmp_path / "images", server.url, backend=key, re_asks=0)
        assert tool.main([str(config), "--out", str(tmp_path / "out")]) == 0
    with caption_server(Behaviour(status=401, echo=True)) as server:
        config = write_config(tmp_path / "job.py", tmp_path / "images", server.url, backend=key)
        assert tool.main([str(config), "--out", str(tmp_path / "other")]) == 2
    printed = capfd.readouterr()
    assert "HTTP 401" in printed.err
    assert "api_key_env" in printed.err
    assert KEY not in printed.out + printed.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 12
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert any(b"***" in path.read_bytes() for path in files)


def test_another_job_is_refused(tmp_path, capsys):
    write_images(tmp_path / "images", 4)
    with caption_server(Behaviour()) as server:
        config = write_config(tmp_path / "job.py", tmp_path / "images", server.url)
        assert tool.main([str(config), "--out", str(tmp_path / "out")]) == 0
        for change, told in (
            (dict(seed=1), "other `seed`"),
            (dict(backend=dict(model="other")), "backend: model: 'tiny', not 'other'"),
        ):
            config = write_config(tmp_path / "job.py", tmp_path / "images", server.url, **change)
            assert tool.main([str(config), "--out", str(tmp_path / "out")]) == 2
            assert told in capsys.readouterr().err
        moved = write_config(tmp_path / "job.py", tmp_path / "images", "http://127.0.0.1:9/v1", re_asks=5)
        assert tool.main([str(moved), "--out", str(tmp_path / "out")]) == 0  # servers may move


@pytest.mark.parametrize("gone", ["images", "job.py"])
def test_missing_inputs_are_named(tmp_path, capsys, gone):
    write_images(tmp_path / "images", 1)
    config = write_config(tmp_path / "job.py", tmp_path / "images", "http://127.0.0.1:9/v1")
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    assert tool.main([str(config), "--out", str(tmp_path / "out")]) == 2
    assert gone in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # a mended config may take the folder


def test_images_that_vanish_are_recorded(tmp_path):
    write_images(tmp_path / "images", 6)
    (tmp_path / "images/00002.jpg").unlink()
    (tmp_path / "images/00002.jpg").symlink_to("no-such-file")
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{i:05d}.jpg\n" for i in range(6)))
    with caption_server(Behaviour()) as server:
        config = write_config(tmp_path / "job.py", tmp_path / "images", server.url)
        images = dict(type="ImageList", file=str(listed), root=str(tmp_path / "images"))
        config.write_text(config.read_text() + f"images = {images!r}\n")
        assert tool.main([str(config), "--out", str(tmp_path / "out")]) == 0
    failed = lines_of(tmp_path / "out/failed.jsonl")
    assert [(line["image"], line["reason"]) for line in failed] == [("00002.jpg", "image")] * 2
    assert len(CaptionTable.open(tmp_path / "out.arrow")) == 10


def test_a_job_without_any_caption_says_why(tmp_path, capsys):
    write_images(tmp_path / "images", 3)
    with caption_server(Behaviour(refused=frozenset(range(3)))) as server:
        config = write_config(tmp_path / "job.py", tmp_path / "images", server.url, re_asks=1)
        assert tool.main([str(config), "--out", str(tmp_path / "out")]) == 2
        assert "Not one caption" in capsys.readouterr().err
    assert [line["reason"] for line in lines_of(tmp_path / "out/failed.jsonl")] == ["refusal"] * 6
    assert len(lines_of(tmp_path / "out/rejected-Ts-qwen.jsonl")) == 6
    assert not (tmp_path / "out.arrow").exists()


def test_procedural_people_from_pictures_to_training_rows(tmp_path):
    """The embedded captioner and exported pictures: who is a man in one is a man in the other."""
    export("luperson_mllm", tmp_path, "source", {"train": 40}, size=(64, 32), seed=5, noise_rate=0.0)
    root = tmp_path / "LUPerson-MLLM"
    backend = dict(type="Procedural", num_ids=40, seed=5, noise_rate=0.0)
    cfg = dict(
        images=dict(type="ImageFolder", root=str(root / "images")),
        sources=[
            dict(name="Ts-qwen", backend=backend, instruction="static"),
            dict(name="Td-qwen", backend=backend, instruction="dynamic", templates="grammar:30"),
        ],
    )
    config = tmp_path / "job.py"
    config.write_text("".join(f"{key} = {value!r}\n" for key, value in cfg.items()))
    drawn = LUPersonMLLM(root, sources=["Ts-qwen"]).table
    assert tool.main([str(config), "--out", str(tmp_path / "out"), "--publish", str(root)]) == 0
    table = CaptionTable.open(tmp_path / "out.arrow")
    data = TextReIDDataset(table=str(tmp_path / "out.arrow"), pipeline=[dict(type="LoadImage")])
    assert data[3]["img"].shape == (64, 32, 3)
    agree = 0
    for i in range(40):
        first, second = drawn.caption(i), table.caption(2 * i)
        assert drawn.image(i) == table.image(2 * i)
        sexes = [
            {bool(SEX.match(word)) for word in WORD.findall(text) if SEX.match(word) or HER.match(word)}
            for text in (first, second)
        ]
        agree += sexes[0] == sexes[1] != set()
    assert agree >= 36  # not every caption names the sex
    assert {table.caption(2 * i + 1) for i in range(40)} != {table.caption(2 * i) for i in range(40)}
