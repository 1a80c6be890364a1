"""Training curves from mmengine's scalars (real ones: tests/evaluation/test_metrics.py)."""

import json

import numpy as np
import pytest
from PIL import Image

from mmreid_text.visualization.curves import COLOURS, plot_curves, read_scalars


def write(folder, lines, tail=""):
    (folder / "vis_data").mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "vis_data" / "scalars.json").write_text(text + tail)


def test_a_resumed_run_is_one_series(tmp_path):
    write(tmp_path / "20260101_000000", [{"loss": 3.0, "step": 1}, {"loss": 2.0, "step": 2}, {"mean/R1": 5, "step": 1}])
    write(tmp_path / "20260102_000000", [{"loss": 1.5, "step": 2}, {"loss": 1.0, "step": 3}], tail='{"loss": 0.')
    scalars = read_scalars(tmp_path)
    np.testing.assert_array_equal(scalars["loss"], [[1, 2, 3], [3.0, 1.5, 1.0]])
    np.testing.assert_array_equal(scalars["mean/R1"], [[1], [5]])


def test_each_run_has_its_line(tmp_path):
    for i, name in enumerate(("em", "nam")):
        write(tmp_path / name, [{"loss": 10 - i - step / 20, "step": step} for step in range(100)])
    plot_curves({"EM": tmp_path / "em", "NAM": tmp_path / "nam"}, tmp_path / "out" / "curves.png", ["loss", "absent"])
    picture = np.asarray(Image.open(tmp_path / "out" / "curves.png").convert("RGB"))
    for colour in COLOURS[:2]:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (picture == rgb).all(-1).sum() > 200


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no vis_data/scalars\.json"):
        read_scalars(tmp_path)
    write(tmp_path, [{"loss": 1.0, "step": 1}])
    with pytest.raises(ValueError, match=r"no run has any of the scalars \['lr'\]; there are \['loss'\]"):
        plot_curves({"a": tmp_path}, tmp_path / "curves.png", ["lr"])
    (tmp_path / "vis_data/scalars.json").write_text('nonsense\n{"loss": 1}\n')
    with pytest.raises(ValueError, match=r"scalars.json:1 is not a line of JSON"):
        read_scalars(tmp_path)
