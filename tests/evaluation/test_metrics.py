"""ReIDMetric in mmengine's Evaluator, and in real test runs of one and of two processes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from mmengine.evaluator import Evaluator
from PIL import Image

from mmreid_text.evaluation import ReIDMetric, rank
from mmreid_text.registry import METRICS
from mmreid_text.visualization import plot_curves, read_scalars

RUN = Path(__file__).with_name("retrieval_run.py")


def predictions(dataset, num_images, captions, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "dataset": dataset,
            "image_feat": torch.randn(8, generator=generator),
            "text_feats": torch.randn(captions + i % 2, 8, generator=generator),
            "pid": torch.tensor(i // 2),
            "image_id": torch.tensor(i),
        }
        for i in range(num_images)
    ]


def evaluate(samples, size=None, **kwargs):
    metric = METRICS.build(dict(type="ReIDMetric", **kwargs))
    evaluator = Evaluator(metric)
    for start in range(0, len(samples), 4):
        evaluator.process(samples[start : start + 4])
    return evaluator.evaluate(size or len(samples)), metric


def test_datasets_are_ranked_apart_in_both_directions():
    left, right = predictions("left", 9, 2), predictions("right", 6, 1, seed=1)
    mixed = [sample for pair in zip(left, right) for sample in pair] + left[6:]
    metrics, _ = evaluate(mixed)
    for name, samples in (("left", left), ("right", right)):
        image = torch.stack([s["image_feat"] for s in samples])
        text = torch.cat([s["text_feats"] for s in samples])
        pid = np.array([int(s["pid"]) for s in samples])
        text_pid = np.repeat(pid, [len(s["text_feats"]) for s in samples])
        expected = rank(text, image, text_pid, pid) | {
            f"i2t_{key}": value for key, value in rank(image, text, pid, text_pid).items()
        }
        assert {k: metrics[f"{name}/{k}"] for k in expected} == pytest.approx(expected)
    assert len(metrics) == 30
    for key in ("R1", "mAP", "i2t_mINP"):
        assert metrics[f"mean/{key}"] == pytest.approx((metrics[f"left/{key}"] + metrics[f"right/{key}"]) / 2)
    assert all(type(value) is float for value in metrics.values())


def test_padded_rows_do_not_count():
    samples = predictions("left", 7, 1)
    assert evaluate([*samples, *samples[:3]], size=7)[0] == evaluate(samples)[0]


def test_results_own_their_memory():
    batch = torch.randn(3, 8)
    metric = ReIDMetric()
    metric.process(None, [{"dataset": "a", "image_feat": batch[0], "text_feats": batch[1:], "pid": 0, "image_id": 0}])
    kept = metric.results[0]["image"].copy()
    batch.zero_()
    np.testing.assert_array_equal(metric.results[0]["image"], kept)


def test_result_files_and_features(tmp_path):
    samples = predictions("left", 9, 2)
    metrics, metric = evaluate(samples, out_dir=str(tmp_path / "out"))
    assert json.loads((tmp_path / "out/results.json").read_text()) == metrics
    assert f"{metrics['left/R1']:.2f}" in (tmp_path / "out/results.md").read_text()
    assert metric.features == {}
    metric.keep_features = True
    metric.process(None, samples)
    metric.evaluate(9)
    features = metric.features["left"]
    np.testing.assert_array_equal(features.image[3], samples[3]["image_feat"])
    np.testing.assert_array_equal(features.text[features.text_image == 3], samples[3]["text_feats"])
    np.testing.assert_array_equal(features.image_id, np.arange(9))


def test_errors_name_the_dataset():
    samples = predictions("left", 4, 1)
    samples[2]["text_feats"] = samples[3]["text_feats"] = torch.empty(0, 8)
    with pytest.raises(ValueError, match="dataset 'left': 2 of 4 queries have no positive"):
        evaluate(samples)
    with pytest.raises(ValueError, match="must not be named 'mean'"):
        evaluate(predictions("mean", 4, 1))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a run of one process, trained, and one of two processes over the same 11 images."""
    folder = tmp_path_factory.mktemp("retrieval")
    done = scripts.run(RUN, folder, cwd=folder, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_two_processes_equal_one(run):
    one, two = (json.loads((run / name / "results/results.json").read_text()) for name in ("one", "two"))
    assert one == two
    assert 0 < one["mean/R1"] < 100
    assert {key.split("/")[0] for key in one} == {"left", "right", "mean"}


def test_the_log_shows_the_table(run):
    (log,) = (run / "one").glob("*/*.log")
    assert "| dataset |" in log.read_text()


def test_rank_strips_of_a_run(run):
    for name in ("left", "right"):
        one, two = (np.asarray(Image.open(run / folder / "rank_strips" / f"{name}.png")) for folder in ("one", "two"))
        np.testing.assert_array_equal(one, two)
        assert one.shape[0] > 900  # four queries
        assert (one == (22, 150, 70)).all(-1).sum() > 1000  # a right answer's frame
        assert (one == (205, 45, 40)).all(-1).sum() > 1000


def test_curves_of_a_run(run, tmp_path):
    scalars = read_scalars(run / "one")
    np.testing.assert_array_equal(scalars["loss"][0], np.arange(1, 10))
    assert scalars["loss"][1][-1] < scalars["loss"][1][0]
    np.testing.assert_array_equal(scalars["mean/R1"][0], [1, 2, 3])
    plot_curves({"tiny": run / "one"}, tmp_path / "curves.png")
    assert np.asarray(Image.open(tmp_path / "curves.png")).std() > 10
