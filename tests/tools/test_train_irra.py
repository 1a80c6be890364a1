"""IRRA by the command-line tools: from a checkpoint of NAM to a tested one, on the published layouts."""

import json
import os
import shutil
from pathlib import Path

import scripts
import torch
from small_flagship import SMALL

from mmreid_text.registry import MODELS

IRRA = "configs/irra/clip_b16_cuhk_from-nam.py"
SIZE = dict(width=32, depth=2, heads=4, embed_dim=16)
IMAGE, TEXT = dict(type="CLIPVisionEncoder", patch_size=16, **SIZE), dict(type="CLIPTextEncoder", **SIZE)
TINY = [*SMALL[1:], "model.image_encoder.depth=2", "model.text_encoder.depth=2"]


def call(*args, data):
    done = scripts.run(*args, env={**os.environ, "DATA_ROOT": str(data)})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_irra_from_nams_weights(cuhk_root, icfg_root, rstp_root, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    for root in (cuhk_root, icfg_root, rstp_root):
        for folder in Path(root).iterdir():
            shutil.copytree(folder, data / folder.name, dirs_exist_ok=True)
    nam = MODELS.build(dict(type="DualEncoder", image_encoder=IMAGE, text_encoder=TEXT))
    torch.save({"state_dict": nam.state_dict()}, tmp_path / "nam.pth")
    start = f"model.init_cfg.checkpoint={tmp_path}/nam.pth"
    said = call("tools/train.py", IRRA, "--work-dir", run, "--cfg-options", *TINY, start, data=data)
    assert f"from {tmp_path}/nam.pth" in said
    state = torch.load(run / "epoch_1.pth", weights_only=True)["state_dict"]
    assert state["classifier.weight"].shape == (8, 16)  # CUHK-PEDES' ids count from 1
    said = call("tools/test.py", IRRA, run / "epoch_1.pth", "--work-dir", run, "--cfg-options", *TINY, data=data)
    assert "classifier of 8 identities is left out" in said
    assert "unexpected key" not in said
    results = json.loads((run / "results.json").read_text())
    assert {f"{name}/R1" for name in ("cuhk_pedes", "icfg_pedes", "rstpreid", "mean")} <= results.keys()
