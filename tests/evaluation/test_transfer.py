"""The matrix's figures against their definitions, its marks, its files."""

import csv
import io
import json

import numpy as np
import pytest

from mmreid_text.evaluation.feature_dumps import METRICS, DumpNotes, QueryScores
from mmreid_text.evaluation.transfer import ACROSS, IN_DOMAIN, Row, build_matrix, result_key
from mmreid_text.evaluation.transfer_report import as_csv, as_markdown, write_report

ROWS = [
    Row("IRRA", "A-SET", "val"),
    Row("NAM, then IRRA", "A-SET", "val"),
    Row("IRRA", "B", "test-selected"),
    Row("NAM, then IRRA", "B", "val"),
    Row("CLIP", "WIT", "", one_model=True),
]
TARGETS = ("a_set", "b")
PID = {"a_set": np.repeat(np.arange(30), 4), "b": np.sort(np.arange(90) % 20)}
GALLERY = {"a_set": np.full(30, 2), "b": np.full(20, 3)}


def simulate(seeds=2, better=4.0):
    """Scores in which 'NAM, then IRRA' is better by so much, on average, on every caption."""
    rng = np.random.default_rng(0)
    ease = {t: rng.normal(50, 20, (len(pid), 5)) for t, pid in PID.items()}
    scores = {}
    for i, row in enumerate(ROWS):
        for t in TARGETS:
            noise = rng.normal(0, 2, (1 if row.name == "CLIP" else seeds, *ease[t].shape))
            scores[i, t] = {
                seed: QueryScores(percent, PID[t], GALLERY[t], DumpNotes(data=t))
                for seed, percent in enumerate(ease[t] + noise + better * row.name.startswith("NAM"))
            }
    return scores


def test_cells_summaries_and_differences_are_what_they_say():
    scores = simulate()
    matrix = build_matrix(ROWS, scores)
    assert matrix.targets == list(TARGETS)
    assert len(matrix.cells) == 10
    own = {(cell.row, cell.target): cell.figure for cell in matrix.cells}
    for i, row in enumerate(ROWS):
        for t in TARGETS:
            means = np.array([one.percent.mean(0) for one in scores[i, t].values()])
            np.testing.assert_allclose(own[row, t].mean, means.mean(0))
            if len(means) > 1:
                np.testing.assert_allclose(own[row, t].sd, means.std(0, ddof=1))
            assert (own[row, t].low < own[row, t].mean).all()
            assert (own[row, t].high > own[row, t].mean).all()
    across = next(s for s in matrix.summaries if s.name == "NAM, then IRRA" and s.setting == ACROSS)
    assert across.cells == 2
    np.testing.assert_allclose(across.figure.mean, (own[ROWS[1], "b"].mean + own[ROWS[3], "a_set"].mean) / 2)
    (inside,) = [c for c in matrix.methods if c.where == IN_DOMAIN]
    assert (inside.first, inside.second) == ("IRRA / IRRA (test-selected)", "NAM, then IRRA")
    expected = own[ROWS[1], "a_set"].mean - own[ROWS[0], "a_set"].mean + own[ROWS[3], "b"].mean - own[ROWS[2], "b"].mean
    np.testing.assert_allclose(inside.figure.mean, expected / 2)
    assert (inside.figure.p < 0.01).all()
    assert (inside.figure.low > 2).all()
    assert (inside.figure.high < 6).all()
    assert len(matrix.pairs) == 10 * len(TARGETS)
    (with_clip,) = [c for c in matrix.pairs if (c.first, c.second, c.where) == ("NAM, then IRRA", "CLIP", "a_set")][:1]
    expected = {
        seed: scores[4, "a_set"][0].percent.mean(0) - scores[1, "a_set"][seed].percent.mean(0) for seed in (0, 1)
    }
    assert list(with_clip.figure.per_seed) == [0, 1]
    for seed, own_seed in expected.items():
        np.testing.assert_allclose(with_clip.figure.per_seed[seed], own_seed)


def test_equal_methods_are_not_told_apart():
    matrix = build_matrix(ROWS, simulate(better=0.0))
    p = np.concatenate([c.figure.p for c in matrix.methods])
    assert (p < 0.05).mean() < 0.3


def test_missing_cells_stay_out():
    scores = simulate()
    del scores[3, "a_set"]
    matrix = build_matrix(ROWS, scores)
    assert [c.cells for c in matrix.methods] == [2, 1]
    cells = [[cell.strip() for cell in line.split("|")] for line in as_markdown(matrix, []).splitlines()]
    assert ["NAM, then IRRA", "B", "0 to 2", "-"] in [line[1:5] for line in cells]
    with pytest.raises(ValueError, match="no evaluation"):
        build_matrix(ROWS, {})


def test_other_captions_are_refused():
    scores = simulate()
    right = scores[1, "b"][1]
    scores[1, "b"][1] = QueryScores(right.percent[1:], right.pid[1:], right.gallery, DumpNotes())
    message = r"target b: NAM, then IRRA on A-SET, seed 1, .* \(89 captions, .*\) than IRRA on A-SET, seed 0 \(90 "
    with pytest.raises(ValueError, match=message):
        build_matrix(ROWS, scores)
    scores[1, "b"][1] = QueryScores(right.percent, right.pid, right.gallery + 1, DumpNotes())
    with pytest.raises(ValueError, match=r"80 images, 20 identities\) than .* 60 images, 20 identities"):
        build_matrix(ROWS, scores)
    scores[1, "b"][1] = QueryScores(right.percent, right.pid, right.gallery, DumpNotes(data="other"))
    unstated = scores[0, "b"][0]
    scores[0, "b"][0] = QueryScores(unstated.percent, unstated.pid, unstated.gallery, DumpNotes())
    with pytest.raises(ValueError, match="other captions"):  # also where the first of the column states nothing
        build_matrix(ROWS, scores)


def test_files_agree_and_mark_what_was_selected_on_test(tmp_path):
    matrix = build_matrix(ROWS, simulate())
    markdown = write_report(matrix, tmp_path / "new", ["a note"], [{"seed": 0}])
    assert (tmp_path / "new/matrix.md").read_text() == markdown
    assert "IRRA (test-selected) | B" in markdown
    assert "figures are too high" in markdown
    assert "- a note" in markdown
    assert "chosen, if they were, is not known: CLIP (WIT)." in markdown
    assert "| IRRA / IRRA (test-selected) | NAM, then IRRA | all, 2 cells |" in " ".join(markdown.split())
    lines = list(csv.DictReader(io.StringIO((tmp_path / "new/matrix.csv").read_text())))
    assert len(lines) == 10 * len(METRICS)
    content = json.loads((tmp_path / "new/matrix.json").read_text())
    for line in lines:
        (cell,) = [
            c for c in content["cells"]
            if (c["method"], c["source"], c["target"]) == (line["method"], line["source"], line["target"])
        ]  # fmt: skip
        figure = cell["metrics"][line["metric"]]
        assert float(line["mean"]) == pytest.approx(figure["mean"], abs=1e-4)
        assert float(line["seed_0"]) == pytest.approx(figure["per_seed"]["0"], abs=1e-4)
        assert (line["sd"] == "") == (figure["sd"] is None) == (line["method"] == "CLIP")
        assert cell["protocol"] == line["protocol"]
    bold = f"**{matrix.cells[0].figure.mean[0]:.2f} ± {matrix.cells[0].figure.sd[0]:.2f}**"
    assert bold in markdown
    assert markdown.count("**") // 2 - 1 == 2 * 4  # the legend, and four cells in domain in two tables
    only_val = as_markdown(build_matrix(ROWS[:2], {k: v for k, v in simulate().items() if k[0] < 2}), [])
    assert "test-selected" not in only_val
    assert as_csv(matrix).startswith("method,source,protocol,target,in_domain,metric,seeds,mean,sd,low,high,seed_0,")


def test_published_names_are_those_of_results():
    assert result_key("CUHK-PEDES+RSTPReid") == "cuhk_pedes+rstpreid"
    assert Row("joined", "CUHK-PEDES+RSTPReid").in_domain("rstpreid")
    assert not Row("joined", "CUHK-PEDES+RSTPReid").in_domain("icfg_pedes")
