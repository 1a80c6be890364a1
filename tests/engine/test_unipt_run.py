"""UniPT's runs in small, by real runners: pre-training, what it hands on, and fine-tuning from it."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmreid_text.datasets.transforms.wordpiece import WordPieceTokenizer
from mmreid_text.engine.config import load_config, set_num_ids
from mmreid_text.engine.run_pool import Run
from mmreid_text.procedural.domains import World
from mmreid_text.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs/unipt"
VOCAB = CONFIGS / "procedural_vocab.txt"
COUNTER = itertools.count()


class Watch(Hook):
    """Keeps the weights that training starts from, and the losses."""

    def before_train(self, runner):
        self.start = {key: value.clone() for key, value in runner.model.state_dict().items()}
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({key: value.item() for key, value in outputs.items()})


def small(name, folder, epochs, num_ids=8, **dataset):
    """A config of the demo's at a size that trains within seconds, on one domain, tested on the same."""
    people = dict(type="ProceduralPedestrians", domain="street", num_ids=num_ids, cache_dir=str(folder / "cache"))
    cfg = load_config(str(CONFIGS / name), {"train_cfg.max_epochs": epochs, "log_level": "ERROR"})
    cfg.train_dataloader.dataset = {
        **people,
        "split": "train",
        "pipeline": cfg.train_dataloader.dataset.pipeline,
        **dataset,
    }
    cfg.train_dataloader.update(batch_size=16, num_workers=0, persistent_workers=False)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        if loader:
            loader.dataset = {**people, "num_ids": 4, "split": "test", "pipeline": loader.dataset.datasets[0].pipeline}
    cfg.train_cfg.val_interval = epochs
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.work_dir = str(folder / Path(name).stem)
    cfg.experiment_name = f"{Path(name).stem}_{next(COUNTER)}"
    set_num_ids(cfg)
    return cfg


def train(cfg):
    runner, watch = Runner.from_cfg(cfg), Watch()
    runner.register_hook(watch)
    runner.train()
    return runner, watch


def test_pre_training_hands_its_encoders_on(tmp_path):
    _, watch = train(small("tiny_separate.py", tmp_path, 1))
    assert watch.losses[0].keys() >= {"loss_id", "loss_mlm"}
    first = str(tmp_path / "tiny_separate/epoch_1.pth")

    cfg = small("tiny_luperson-t.py", tmp_path, 8)
    cfg.model.init_cfg.checkpoint = first
    _, watch = train(cfg)
    weights = torch.load(first, weights_only=True)["state_dict"]
    for key in ("image_encoder.layers.3.attn.qkv.weight", "text_encoder.layers.3.output.dense.weight"):
        assert torch.equal(watch.start[key], weights[key])
    assert not torch.equal(watch.start["mlm_head.1.weight"], weights["mlm_head.1.weight"])
    for name in ("loss_itc", "loss_mlm"):
        early, late = (np.mean([losses[name] for losses in part]) for part in (watch.losses[:4], watch.losses[-4:]))
        assert late < early, name

    cfg = small("tiny_street.py", tmp_path, 2)
    cfg.model.init_cfg.checkpoint = str(tmp_path / "tiny_luperson-t/epoch_8.pth")
    tuned, watch = train(cfg)
    weights = torch.load(tmp_path / "tiny_luperson-t/epoch_8.pth", weights_only=True)["state_dict"]
    for name in ("image_encoder", "text_encoder"):
        for key, value in weights.items():
            if key.startswith(name):
                assert torch.equal(watch.start[key], value), key
    assert watch.losses[0].keys() >= {"loss_ranking", "loss_id", "loss_pgu"}
    assert tuned.model.num_ids == 8
    metrics = tuned.test()
    assert 0 <= metrics["procedural_street/R1"] <= 100
    # Tested alone, from its checkpoint, it is the same; identities of training are not needed.
    cfg = small("tiny_street.py", tmp_path, 2)
    cfg.model.num_ids, cfg.load_from = None, str(tmp_path / "tiny_street/epoch_2.pth")
    cfg.model.init_cfg = None
    assert Runner.from_cfg(cfg).test() == metrics


@pytest.mark.parametrize(
    ("name", "loader"), [("tiny_street.py", "EncoderWeights"), ("tiny_street_from-random.py", "CLIPPretrained")]
)
def test_a_row_of_a_matrix_starts_by_its_own_loader(tmp_path, name, loader):
    (tmp_path / "start").mkdir()
    (tmp_path / "start/best_mean_R1_epoch_1.pth").write_bytes(b"")
    cfg = load_config(str(CONFIGS / name))
    start = Run("start", tmp_path / "start", cfg)
    Run("own", tmp_path / "own", cfg, start=start).write_config(tmp_path / "own.py")
    written = load_config(str(tmp_path / "own.py"))
    assert written.model.init_cfg == dict(type=loader, checkpoint=str(tmp_path / "start/best_mean_R1_epoch_1.pth"))


@pytest.mark.parametrize(
    "name", ["vit_b16_luperson-t.py", "vit_b16_luperson-t_tau1.py", "vit_b16_cuhk.py", "irra_vit-b16_cuhk.py"]
)
def test_rates_and_decays_are_the_published_ones(name):
    cfg = load_config(str(CONFIGS / name))
    for encoder in (cfg.model.image_encoder, cfg.model.text_encoder):
        encoder.update(width=32, heads=4, depth=2, embed_dim=16)
    if cfg.model.type != "UniPT":
        cfg.model.num_ids = 5
    with DefaultScope.overwrite_default_scope("mmreid_text"):
        model = MODELS.build(cfg.model)
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    for key, parameter in model.named_parameters():
        lr, decay = found.pop(id(parameter))
        if cfg.model.type == "UniPT":
            plain = key.endswith("bias") or parameter.ndim == 1
            assert (lr, decay) == (1e-5, 0 if plain else 0.01), key
        elif cfg.model.type == "UniPTRetriever":
            assert (lr, decay) == (1e-5 if key.startswith("text_encoder") else 1e-4, 0), key
    assert not found


@pytest.mark.parametrize("domain", ["web", "source", "street", "mall", "station"])
def test_the_vocabulary_spells_what_is_said_of_drawn_people(domain):
    tokenizer = WordPieceTokenizer(VOCAB)
    world = World(domain, 40, None, 7, 0.2, (64, 32), "test")
    captions = [caption.text for index in range(len(world)) for caption in world.captions(index)]
    ids = tokenizer(captions, 128)
    pieces = tokenizer.decode(ids[ids != 0])
    assert "[UNK]" not in pieces
    assert np.mean([piece.startswith("##") for piece in pieces]) < 0.01
    assert tokenizer.vocab_size <= load_config(str(CONFIGS / "tiny_street.py")).model.text_encoder.vocab_size
