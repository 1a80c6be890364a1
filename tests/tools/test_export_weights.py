"""The export tool as a user calls it."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from irra_restated import Sizes, random_state, save_checkpoint
from transformers import CLIPModel

from mmreid_text.apis import build_clip, load_peer
from mmreid_text.engine.config import load_config
from mmreid_text.models import checkpoints
from mmreid_text.registry import MODELS

ROOT = Path(__file__).parents[2]
START = str(ROOT / "mmreid_text/weights/tiny_web.pt")


@pytest.fixture
def call(monkeypatch):
    def run(*args):
        monkeypatch.setattr(sys, "argv", ["export_weights.py", *map(str, args)])
        runpy.run_path(str(ROOT / "tools/export_weights.py"), run_name="__main__")

    return run


def test_the_tiny_start_goes_to_transformers(call, tmp_path, capsys):
    call(START, "huggingface", tmp_path / "clip", "--config", ROOT / "configs/nam/tiny_procedural.py")
    out = capsys.readouterr().out
    assert "interpolate_pos_encoding=True" in out
    assert "64x32" in out
    theirs, image = CLIPModel.from_pretrained(tmp_path / "clip"), torch.randn(2, 3, 64, 32)
    assert theirs.logit_scale.item() == pytest.approx(torch.tensor(50.0).log().item())
    with torch.no_grad():
        expected = build_clip(START, (64, 32)).encode_image(image)
        features = theirs.get_image_features(image, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)


def test_irra_goes_to_irra_and_to_transformers(call, tmp_path, capsys):
    sizes = Sizes()
    save_checkpoint(tmp_path / "best.pth", {**random_state(sizes, seed=0), "queue": torch.ones(1)})
    (tmp_path / "configs.yaml").write_text("img_size: [48, 16]\nstride_size: 8\n")
    call(tmp_path / "best.pth", "irra", tmp_path / "again.pth")
    out = capsys.readouterr().out
    assert "left out: queue" in out
    assert "img_size=48x16, stride_size=8" in out
    first, second = (load_peer(str(tmp_path / name), sizes.img_size) for name in ("best.pth", "again.pth"))
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())
    call(tmp_path / "best.pth", "huggingface", tmp_path / "clip")
    assert "left out: queue, classifier.*, relation.*" in capsys.readouterr().out


def test_our_run_goes_to_irra_with_its_config(call, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(checkpoints, "print_log", lambda message, *_: said.append(message))
    (tmp_path / "config.py").write_text(
        """model = dict(
    type='IRRA',
    image_encoder=dict(
        type='CLIPVisionEncoder', width=64, depth=1, heads=1, patch_size=8, embed_dim=64, img_size=(24, 16)),
    text_encoder=dict(type='CLIPTextEncoder', width=64, depth=1, heads=1, embed_dim=64),
    losses=[dict(type='ITCLoss', tau=0.07)],
    num_ids=None,
    relation=dict(type='CrossModalRelation', depth=1))
"""
    )
    cfg = load_config(str(tmp_path / "config.py")).model
    model = MODELS.build({**cfg, "num_ids": 5}).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "epoch_1.pth")
    call(tmp_path / "epoch_1.pth", "irra", tmp_path / "best.pth", "--config", tmp_path / "config.py")
    (report,) = said  # speaks of what is exported
    assert "identity head 2 tensors" in report
    assert "left out" not in report
    again = load_peer(str(tmp_path / "best.pth"), (24, 16))
    text, image = torch.tensor([[49406, 320, 49405, 49407, 0]]), torch.randn(1, 3, 24, 16)
    with torch.no_grad():
        assert torch.equal(again.masked_language_logits(text, image), model.masked_language_logits(text, image))
        assert torch.equal(again.identity_logits(torch.ones(1, 64)), model.identity_logits(torch.ones(1, 64)))
    call(tmp_path / "best.pth", "huggingface", tmp_path / "clip", "--config", tmp_path / "config.py")
    assert CLIPModel.from_pretrained(tmp_path / "clip").logit_scale.exp().item() == pytest.approx(1 / 0.07)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((START, "irra", "best.pth"), r"error: .*image_encoder\.heads=4 at width 64"),
        (("nowhere.pth", "irra", "best.pth"), r"error: There is no checkpoint .*nowhere\.pth"),
        ((START, "huggingface", "."), r"error: .* not an empty folder"),
        ((START, "irra", "best.pth", "--config", "nowhere.py"), r"error: config nowhere\.py does not exist"),
        ((START, "irra", "best.pth", "--config", ROOT / "configs/clip/tiny_web.py"), "heads=4"),
    ],
)
def test_one_line_says_what_is_wrong(call, args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    with pytest.raises(SystemExit, match=message):
        call(*args)
    assert [path.name for path in tmp_path.iterdir()] == ["something"]
