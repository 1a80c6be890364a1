"""The matrix's picture: a colour and a frame per cell."""

import numpy as np
from PIL import Image

from mmreid_text.evaluation.feature_dumps import DumpNotes, QueryScores
from mmreid_text.evaluation.transfer import Row, build_matrix
from mmreid_text.visualization.heat_map import FRAME, plot_heat_map


def count(path, colour):
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.asarray(Image.open(path).convert("RGB")).astype(int) - rgb == 0).all(-1).sum())


def test_cells_in_domain_are_framed_and_missing_ones_blank(tmp_path):
    rng, pid = np.random.default_rng(0), np.arange(40) // 2
    rows = [Row(name, source, "val") for source in ("a", "b") for name in ("IRRA", "NAM, then IRRA")]

    def draw(name, rows, missing=()):
        places = [(i, t) for i in range(len(rows)) for t in ("a", "b") if (i, t) not in missing]
        one = {
            p: {s: QueryScores(rng.uniform(0, 100, (40, 5)), pid, np.ones(20), DumpNotes()) for s in (0, 1)}
            for p in places
        }
        plot_heat_map(build_matrix(rows, one), tmp_path / "new" / name)
        return count(tmp_path / "new" / name, FRAME)

    framed = draw("whole.png", rows)
    assert framed > 1000
    elsewhere = draw("elsewhere.png", [Row(row.name, row.source + "x", "val") for row in rows])
    assert elsewhere == 0
    one_less = draw("less.png", rows, missing=[(0, "a")])
    assert abs(one_less / framed - 3 / 4) < 0.02
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["elsewhere.png", "less.png", "whole.png"]


def test_one_cell_is_drawn(tmp_path):
    scores = {(0, "a"): {0: QueryScores(np.full((4, 5), 50.0), np.arange(4), np.ones(4), DumpNotes())}}
    plot_heat_map(build_matrix([Row("IRRA", "a", "test-selected")], scores), tmp_path / "one.png")
    assert count(tmp_path / "one.png", FRAME) > 200
