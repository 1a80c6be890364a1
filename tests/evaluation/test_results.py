"""Tables and result files."""

import json

import pytest

from mmreid_text.evaluation.results import format_table, write_results

METRICS = {"mean/R1": 31.25, "cuhk_pedes/R1": 57.614, "cuhk_pedes/mAP": 100.0, "rstp/R1": 4.885}


def test_table_is_aligned_with_the_mean_last():
    lines = format_table(METRICS).splitlines()
    assert lines == [
        "| dataset    |    R1 |    mAP |",
        "| :--------- | ----: | -----: |",
        "| cuhk_pedes | 57.61 | 100.00 |",
        "| rstp       |  4.88 |      - |",
        "| mean       | 31.25 |      - |",
    ]


def test_write_results(tmp_path):
    path = tmp_path / "new" / "results.json"
    write_results(METRICS, path)
    assert json.loads(path.read_text()) == METRICS
    assert path.with_suffix(".md").read_text() == format_table(METRICS) + "\n"
    assert sorted(p.name for p in path.parent.iterdir()) == ["results.json", "results.md"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_results(METRICS, path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_results({"a/R1": 1.0}, path)
    assert json.loads(path.read_text()) == METRICS
    assert len(list(tmp_path.iterdir())) == 2


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"finite numbers, got \{'a/R1': nan\}"):
        write_results({"a/R1": float("nan")}, tmp_path / "results.json")


def test_rows_and_file_state_how_the_weights_were_chosen(tmp_path):
    path = tmp_path / "results.json"
    for protocol in ("test-selected", "paper-val"):
        write_results(METRICS, path, protocol)
        content = json.loads(path.read_text())
        assert content.pop("protocol") == protocol
        assert content == METRICS
        rows = [line.split("|")[1].strip() for line in path.with_suffix(".md").read_text().splitlines()[2:]]
        assert rows == [f"{row} ({protocol})" for row in ("cuhk_pedes", "rstp", "mean")]
    write_results(METRICS, path, "val")
    assert json.loads(path.read_text()) == {"protocol": "val", **METRICS}
    assert path.with_suffix(".md").read_text() == format_table(METRICS) + "\n"
