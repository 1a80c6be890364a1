"""Training samples and token noise as pictures, against what a real run was given."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from small_procedural import small_procedural

from mmreid_text.datasets.transforms.tokenizer import MASK, get_tokenizer
from mmreid_text.engine.noise_table import load_noise_table
from mmreid_text.models.token_noise import masking_probability
from mmreid_text.visualization.dataset_sheet import (
    MASKED,
    REPLACED,
    STAYS,
    draw_dataset_sheet,
    masked_chips,
    save_dataset_sheet,
)
from mmreid_text.visualization.token_noise_view import (
    TokenNoise,
    draw_token_noise,
    probability_chips,
    probability_colour,
)
from mmreid_text.visualization.training_view import Sample, Token, TrainingView, read_rows

ROOT = Path(__file__).parents[2]
ROWS = [3, 10, 41, 60]


class Recorder(Hook):
    """Keeps what the model was given, by epoch and caption."""

    priority = "LOWEST"

    def __init__(self):
        self.given = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        seen = runner.model.data_preprocessor(dict(data_batch), training=True)
        for i, row in enumerate(data_batch["caption_id"].tolist()):
            self.given[runner.epoch + 1, row] = (
                seen["image"][i].clone(),
                data_batch["text"][i].clone(),
                data_batch["masked_text"][i].clone(),
            )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs whose pipeline erases, its config, and what its model was given."""
    folder = tmp_path_factory.mktemp("view")
    options = {"randomness.seed": 5, "train_cfg.max_epochs": 2, "default_hooks.checkpoint.save_best": None}
    for part in ("val", "test"):
        options |= {f"{part}_dataloader": None, f"{part}_cfg": None, f"{part}_evaluator": None}
    cfg = small_procedural(folder, **options)
    cfg.train_dataloader.dataset.pipeline.insert(3, dict(type="RandomErasing", prob=0.8))
    cfg.work_dir = str(folder / "run")
    cfg.experiment_name = folder.name
    cfg.visualizer.vis_backends = []
    runner = Runner.from_cfg(cfg)
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    cfg.dump(str(folder / "mine.py"))
    return folder, cfg, recorder.given


@pytest.fixture(scope="module")
def view(run):
    folder, cfg, _ = run
    return TrainingView(cfg, folder / "run")


@pytest.mark.parametrize("epoch", [1, 2])
def test_samples_are_what_the_run_was_given(run, view, epoch):
    given = run[2]
    pixels = view.preprocessor
    erased = drawn = 0
    for sample in view.samples(ROWS, epoch):
        image, text, masked = given[epoch, sample.row]
        shown = torch.from_numpy(sample.image).permute(2, 0, 1) * pixels.scale + pixels.shift
        assert (shown - image).abs().max() <= 0.51 * pixels.scale.max()  # the nearest of 256 levels
        colour = (pixels.erase_value - pixels.shift) / pixels.scale
        erased += int((sample.image == colour.round().flatten().numpy()).all(-1).sum() > 30)
        assert (sample.text == text[: len(sample.text)].numpy()).all()
        assert [token.position for token in sample.tokens] == list(range(1, len(sample.text) - 1))
        ids = [text[token.position] for token in sample.tokens]
        assert [token.text for token in sample.tokens] == get_tokenizer().decode(ids)
        for token in sample.tokens:
            new = masked[token.position]
            if new != text[token.position]:
                assert token.instead == get_tokenizer().decode([new])[0]
                drawn += 1
            else:
                assert token.instead in ("", token.text)
    assert erased >= 2
    assert drawn >= 6
    if epoch == 2:  # neither pixels nor masks are those of the first
        first = view.samples(ROWS, 1)
        assert any((a.image != b.image).any() for a, b in zip(first, view.samples(ROWS, 2)))
        assert [s.tokens for s in first] != [s.tokens for s in view.samples(ROWS, 2)]


def test_probabilities_are_those_of_the_saved_table(run, view):
    samples = view.samples(ROWS, 3)
    noise, _ = load_noise_table(run[0] / "run/noise_epoch_2.npz")
    for sample, found in zip(samples, view.probability(samples, 3)):
        r = torch.from_numpy(noise[[sample.row], : len(sample.text)]) / 127.5
        expected = masking_probability(r, torch.from_numpy(sample.text)[None], 0.15)[0, 1:-1]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
        assert found.std() > 0.005
    for uniform in view.probability(samples, 1):
        np.testing.assert_allclose(uniform, 0.15, atol=1e-6)
    assert view.epochs() == [2, 3]
    with pytest.raises(FileNotFoundError, match=r"no .*noise_epoch_6\.npz\. There are tables for epochs \[2, 3\]"):
        view.samples(ROWS, 7)


def test_wrong_tokens_are_those_of_wrong_words(view):
    samples = view.samples(range(64), 1)
    wrong, _, _ = view.dataset.token_truth()
    found = view.wrong_tokens(samples)
    assert sum(int(one.sum()) for one in found) > 20
    for sample, one in zip(samples, found):
        assert one.tolist() == wrong[sample.row][: len(sample.tokens)].tolist()


def test_what_cannot_be_shown_is_refused(run, view):
    with pytest.raises(ValueError, match="epoch 0 does not exist"):
        view.samples(ROWS, 0)
    with pytest.raises(ValueError, match=r"rows \[64\] asked of 64 captions"):
        view.samples([1, 64], 1)
    cfg = run[1].copy()
    cfg.custom_hooks = [dict(type="UniformMaskingHook"), dict(type="UniformMaskingHook")]
    with pytest.raises(ValueError, match="2 masking hooks"):
        TrainingView(cfg, run[0])
    cfg.custom_hooks = [dict(type="UniformMaskingHook")]
    cfg.randomness = dict(seed=None)
    with pytest.raises(ValueError, match="name the run's seed, from its log"):
        TrainingView(cfg, run[0])
    plain = TrainingView(cfg, run[0], seed=1)
    samples = plain.samples([0], 1)
    with pytest.raises(ValueError, match="no NoiseAwareMaskingHook"):
        plain.probability(samples, 1)
    assert read_rows("0-2, 7") == [0, 1, 2, 7]
    for bad in ("", "a", "3-", "-3", "4-1", "0-500", "1.5", f"0-{10**20}"):
        with pytest.raises(ValueError, match="rows"):
            read_rows(bad)


TOKENS = [
    Token(1, "red", False, "<|mask|>"),
    Token(2, "co", True, "dog"),
    Token(3, "at", False, "at"),
    Token(4, "<b>", False),
]
SAMPLE = Sample(7, np.full((64, 32, 3), (10, 200, 30), np.uint8), "<script>red</script> coat", TOKENS, np.arange(6))


def test_dataset_sheet_colours_what_is_masked_replaced_and_kept(tmp_path):
    chips = masked_chips(TOKENS)
    assert [[(c.text, c.fill) for c in chip.cells] for chip in chips] == [
        [("mask", MASKED)],
        [("dog", REPLACED)],
        [("stays", STAYS)],
        [],
    ]
    assert [chip.joined for chip in chips] == [False, True, False, False]
    picture = draw_dataset_sheet([SAMPLE] * 3, "title")
    body = picture[70:]
    for colour in (MASKED, REPLACED, STAYS):
        assert (body == colour).all(-1).sum() > 3 * 50  # in each of the three
    assert (body == (10, 200, 30)).all(-1).sum() == 3 * 88 * 176  # whole crops, none over another
    save_dataset_sheet([SAMPLE], "a <title>", tmp_path / "new" / "sheet.html")
    page = (tmp_path / "new/sheet.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;red&lt;/script&gt; coat" in page
    assert "a &lt;title&gt;" in page
    assert not re.search(r'(src|href)="(?!data:image/png;base64,)', page)  # nothing from elsewhere
    assert "default-src 'none'" in page
    with pytest.raises(ValueError, match="no sample"):
        draw_dataset_sheet([], "title")


def test_token_noise_has_a_row_of_cells_per_epoch_and_marks_wrong_words():
    probability = np.array([[0.0, 0.1, 0.2, 0.9], [0.3, 0.3, 0.3, 0.3]])
    noise = TokenNoise(SAMPLE, probability, np.array([False, True, True, False]))
    chips = probability_chips(noise, [2, 3])
    assert [[cell.text for cell in chip.cells] for chip in chips] == [
        ["0", "30"],
        ["10", "30"],
        ["20", "30"],
        ["90", "30"],
    ]
    assert [chip.marked for chip in chips] == [False, True, True, False]
    assert chips[1].cells[0].title == "epoch 2: 10.0%"
    light = [sum(probability_colour(p)) for p in (0.0, 0.1, 0.2, 0.5)]
    assert light == sorted(light, reverse=True)
    assert light[0] - light[-1] > 200
    picture = draw_token_noise([noise], [2, 3], "title")[70:]
    first = [np.flatnonzero((picture == probability_colour(p)).all(-1).any(1)) for p in (0.9, 0.3)]
    assert first[1][0] - first[0][0] == 15  # one row of cells below the other
    with pytest.raises(ValueError, match=r"must be \(1, 4\), got \(2, 4\)"):
        draw_token_noise([noise], [2], "title")


def tool(name):
    spec = importlib.util.spec_from_file_location(f"{name}_tool", ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_browse_dataset_tool(run, capsys):
    folder = run[0]
    arguments = [str(folder / "mine.py"), "--work-dir", str(folder / "run"), "--rows", "3,10"]
    tool("browse_dataset")([*arguments, "--epoch", "2"])
    assert "2 of 64 captions" in capsys.readouterr().out
    page = (folder / "run/dataset_epoch_2.html").read_text()
    assert "epoch 2, seed 5" in page
    masked = run[2][2, 3][2]
    assert page.split("caption 10:")[0].count(">mask</i>") == int((masked == MASK).sum())
    tool("browse_dataset")([*arguments, "--out", str(folder / "one.png")])
    assert Image.open(folder / "one.png").size[0] > 900
    with pytest.raises(SystemExit, match="error: epoch 9 masks by the noise of epoch 8"):
        tool("browse_dataset")([*arguments, "--epoch", "9"])
    with pytest.raises(SystemExit):
        tool("browse_dataset")([*arguments, "--out", "one.pdf"])


def test_token_noise_tool(run, capsys):
    folder = run[0]
    arguments = [str(folder / "mine.py"), "--rows", "0-5", "--work-dir"]
    tool("token_noise")([*arguments, str(folder / "run"), "--out", str(folder / "noise.html")])
    assert "6 captions, epochs 2, 3" in capsys.readouterr().out
    page = (folder / "noise.html").read_text()
    assert page.count("<section>") == 6
    assert 'title="epoch 3: ' in page
    assert page.count('class="chip marked"') + page.count('class="chip joined marked"') > 0
    with pytest.raises(SystemExit, match=r"error: .* holds no noise_epoch_<n>"):
        tool("token_noise")([*arguments, str(folder)])


def test_curves_tool(run, tmp_path, capsys):
    for name, values in (("a", [3, 2]), ("b", [2, 1])):
        path = tmp_path / name / "vis_data/scalars.json"
        path.parent.mkdir(parents=True)
        path.write_text("".join(f'{{"loss": {v}, "step": {i}}}\n' for i, v in enumerate(values)))
    tool("curves")([f"NAM={tmp_path / 'a'}", str(tmp_path / "b")])
    assert f"Picture: {tmp_path / 'a/curves.png'}" in capsys.readouterr().out
    assert (np.asarray(Image.open(tmp_path / "a/curves.png").convert("RGB")) == (0, 114, 178)).all(-1).any()
    tool("curves")(["--list", str(tmp_path / "a")])
    assert capsys.readouterr().out == "a: loss\n"
    with pytest.raises(SystemExit, match="error: no run has any of the scalars"):
        tool("curves")([str(tmp_path / "a"), "--scalars", "absent"])
    with pytest.raises(SystemExit, match="two runs are called 'a'"):
        tool("curves")([str(tmp_path / "a"), f"a={tmp_path / 'b'}"])


def test_explain_tool(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (80, 40, 3), dtype=np.uint8)).save(tmp_path / name)
    images = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    tool("explain")(["a red coat", *images, "--device", "cpu", "--out", str(tmp_path / "sheet.png")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in lines[:4:2]] == images
    assert re.fullmatch(r" +a [+-]\d\.\d{3}  red [+-]\d\.\d{3}  coat [+-]\d\.\d{3}", lines[1])
    assert Image.open(tmp_path / "sheet.png").size[1] > 700
    with pytest.raises(SystemExit, match=r"error: Image .*absent\.png does not exist"):
        tool("explain")(["a red coat", str(tmp_path / "absent.png"), "--device", "cpu"])
