"""Configs: unknown names refused, protocols spread, every file builds."""

import copy
import math
from pathlib import Path

import pytest
import torch
from mmengine.optim import LinearLR  # noqa: F401  (registers mmengine's schedulers)
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS

from mmreid_text.datasets import CUHKPEDES, TextReIDDataset, write_caption_table
from mmreid_text.engine.config import check_data, check_shares, check_weights, load_config, set_start
from mmreid_text.engine.config_options import TOP_LEVEL_KEYS
from mmreid_text.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS

ROOT = Path(__file__).parents[2]
# Files of a matrix name configs (test_matrix_runs.py); captioning jobs are none (captioning/test_job.py and
# tools/test_pseudo_text.py).
CONFIGS = sorted(
    p
    for p in (ROOT / "configs").rglob("*.py")
    if not ("_base_" in p.parts or p.stem.startswith(("matrix", "pseudo_text")))
    and (p.parent.name != "captioning" or p.stem.startswith("tiny"))
)
#: Sizes of encoders that build in no time, whatever their type.
SMALL = dict(width=32, heads=4, embed_dim=16)
FLAGSHIP = str(ROOT / "configs/nam/clip_b16_luperson.py")
CMMT = str(ROOT / "configs/cmmt/tiny_full.py")


def write(tmp_path, body):
    (tmp_path / "child.py").write_text(f"_base_ = ['{FLAGSHIP}']\n{body}\n")
    return str(tmp_path / "child.py")


def test_misspelt_top_level_key_names_the_nearest(tmp_path):
    with pytest.raises(KeyError, match=r"unknown top-level key 'train_dataloder'.*'train_dataloader'"):
        load_config(write(tmp_path, "train_dataloder = dict(batch_size=2)"))


def test_helper_variables_start_with_an_underscore(tmp_path):
    assert load_config(write(tmp_path, "_size = (384, 128)"))._size == (384, 128)
    with pytest.raises(KeyError, match=r"unknown top-level key 'size'.*starts with '_': '_size'"):
        load_config(write(tmp_path, "size = (384, 128)"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train_dataloder.batch_size", "'train_dataloader'"),
        ("model.image_encoder.widht", "'width'"),
        ("train_dataloader.dataset.num_image", "'num_images'"),
        ("custom_hooks.3.p", "no index of a list of 1"),
        ("train_cfg.max_epochs.x", "is a value"),
        ("model.image_encoder.img_size.0", "is a value"),
        ("load_from.x", "load_from is None; set the whole dict"),
        ("train_dataloader.drop_lst", "'drop_last'"),
        ("randomness.sed", "'seed'"),
        ("env_cfg.mp_config", "'mp_cfg'"),
        ("log_processor.windowsize", "'window_size'"),
    ],
)
def test_option_that_names_nothing_is_refused(option, message):
    with pytest.raises(KeyError, match=message):
        load_config(FLAGSHIP, {option: 1})


def test_options_reach_keys_lists_and_unset_arguments():
    cfg = load_config(
        FLAGSHIP,
        {"train_dataloader.batch_size": 2, "custom_hooks.0.p": 0.3, "train_dataloader.dataset.num_images": 64},
    )
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.custom_hooks[0].p == 0.3
    assert cfg.train_dataloader.dataset.num_images == 64


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("train_cfg", {"max_epoch": 2}, r"option train_cfg\.max_epoch: .*'max_epochs'"),
        ("model.image_encoder", {"widht": 8}, "'width'"),
        ("model", {"image_encoder": {"widht": 8}}, r"option model\.image_encoder\.widht: .*'width'"),
        ("train_dataloader", {"dataset.num_images": 8}, "'dataset.num_images' names nothing"),
        ("model.losses", {"type": "SDMLoss"}, r"a dict cannot join a list of 1\. .* element: model\.losses\.0"),
        ("model.losses", "SDMLoss", "'SDMLoss' cannot stand for a list of 1 dicts"),
        (
            "model.losses",
            [{"type": "SDMLoss", "taw": 1}],
            r"option model\.losses\.0\.taw: SDMLoss takes no 'taw'.*'tau'",
        ),
        ("model.losses.0", {"type": "ITCLoss", "taw": 1}, r"option model\.losses\.0\.taw: ITCLoss takes no 'taw'"),
        ("custom_hooks", [{"type": "NoSuchHook", "start": 2}, {"type": "TextIoUHook", "strat": 2}], r"custom_hooks\.1"),
        ("model.token_loss", {"type": "ITCLoss", "taw": 1}, r"option model\.token_loss\.taw: ITCLoss takes no"),
        ("optim_wrapper.optimizer", {"_delete_": True, "type": "SGD", "momentun": 1}, "'momentum'"),
        ("train_cfg.max_epochs", {"a": 1}, "a dict cannot join .*_delete_=True"),
        ("train_cfg", 3, r"option train_cfg: 3 cannot stand for a dict of settings: type, max_epochs"),
        ("param_scheduler.1", 5, "5 cannot stand for a dict"),
        ("model.losses.0", "SDMLoss", "'SDMLoss' cannot stand for a dict"),
    ],
)
def test_values_that_do_not_fit_are_refused(option, value, message):
    with pytest.raises((KeyError, ValueError), match=message):
        load_config(FLAGSHIP, {option: value})


def test_dicts_join_or_replace_and_stay_as_they_were():
    sgd = {"optim_wrapper.optimizer": {"_delete_": True, "type": "SGD", "lr": 0.1}}
    train = {"train_dataloader.dataset": {"num_images": 64}, "train_cfg": {"max_epochs": 2}, "model.losses": []}
    for _ in range(2):
        cfg = load_config(FLAGSHIP, sgd | train)
        assert cfg.optim_wrapper.optimizer == {"type": "SGD", "lr": 0.1}
        assert cfg.train_dataloader.dataset.num_images == 64
        assert "pipeline" in cfg.train_dataloader.dataset
        assert (cfg.train_cfg.max_epochs, cfg.model.losses) == (2, [])
    assert load_config(
        FLAGSHIP, {"optim_wrapper.optimizer": {"type": "SGD", "momentum": 0.9}}
    ).optim_wrapper.optimizer.lr
    bench = dict(type="CUHKPEDES", split="val", pipeline=[])
    cfg = load_config(FLAGSHIP, {"val_dataloader.dataset.datasets": [bench], "protocol": "paper-val"})
    assert cfg.val_dataloader.dataset.datasets[0].protocol == "paper-val"
    assert "protocol" not in bench


def test_classes_that_hand_arguments_on_take_any():
    ema = {"type": "EMAHook", "momentum": 0.5}
    assert load_config(FLAGSHIP, {"custom_hooks": [ema]}).custom_hooks == [ema]


def test_delete_replaces_wherever_it_stands():
    new = {"_delete_": True, "type": "ITCLoss", "tau": 1}
    for given, options in (
        ("dict", {"model.image_encoder": {"_delete_": True, "type": "CLIPVisionEncoder", "width": 8}}),
        ("element", {"param_scheduler.1": {"_delete_": True, "type": "ConstantLR", "end": 2}}),
        ("list", {"model.losses": [new]}),
        ("unset", {"model.token_loss": new, "compile": {"_delete_": True, "mode": "x"}}),
        ("value", {"load_from": {"_delete_": True, "a": {"_delete_": True, "b": 1}}}),
        ("none", {"load_from": {"a": 1}}),
        ("false", {"train_cfg": {"_delete_": False, "max_epochs": 2}}),
    ):
        cfg = load_config(FLAGSHIP, options)
        assert "_delete_" not in str(cfg.to_dict()), given
    constant = {"type": "ConstantLR"}
    cfg = load_config(FLAGSHIP, {"param_scheduler.1": {"_delete_": True, **constant}})
    assert cfg.param_scheduler[1] == constant
    assert new["_delete_"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_whole_settings_of_every_config_pass_as_options(path):
    cfg = load_config(str(path))
    for key in ("custom_hooks", "param_scheduler", "model", "optim_wrapper", "train_dataloader"):
        value = cfg.to_dict().get(key)
        if value:
            again = load_config(str(path), {key: value if isinstance(value, list) else {**value, "_delete_": True}})
            assert again.to_dict()[key] == value


def test_weights_and_starts_of_losses_are_options():
    loss = "model.iou_losses.1"
    cfg = load_config(CMMT, {f"{loss}.loss_weight": 10, f"{loss}.start": 4, "model.cluster_memory.loss_weight": 2})
    assert (cfg.model.iou_losses[1].loss_weight, cfg.model.iou_losses[1].start) == (10, 4)
    assert MODELS.build(cfg.model).loss_weights["cluster"] == 2
    assert load_config(FLAGSHIP, {"model.losses.0.loss_weight": 2}).model.losses[0].loss_weight == 2
    with pytest.raises(KeyError, match="'start' names nothing"):
        load_config(FLAGSHIP, {"model.losses.0.start": 2})


@pytest.mark.parametrize(
    "option",
    [
        "train_dataloader.drop_last",
        "val_dataloader.prefetch_factor",
        "train_dataloader.num_batch_per_epoch",
        "log_processor.window_size",
        "randomness.deterministic",
        "env_cfg.resource_limit",
        "env_cfg.dist_cfg.timeout",
        "env_cfg.mp_cfg.anything",
        "optim_wrapper.paramwise_cfg",
        "sync_bn",
    ],
)
def test_options_of_nodes_without_type(option):
    node = load_config(FLAGSHIP, {option: 1})
    for part in option.split("."):
        node = node[part]
    assert node == 1


def test_missing_config_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
        load_config("nowhere.py")


@pytest.mark.parametrize("protocol", ["val", "paper-val", "test-selected"])
def test_protocol_reaches_every_benchmark(protocol):
    cfg = load_config(FLAGSHIP, {"protocol": protocol})
    assert [d.protocol for d in cfg.val_dataloader.dataset.datasets] == [protocol] * 3
    best = cfg.default_hooks.checkpoint.save_best
    if protocol == "test-selected":
        assert best == ["cuhk_pedes/R1", "icfg_pedes/R1", "rstpreid/R1"]
    else:
        assert best == "mean/R1"


def test_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match="protocol must be one of val, paper-val, test-selected, got 'best'"):
        load_config(FLAGSHIP, {"protocol": "best"})


def test_test_selected_names_datasets_without_building_them(tmp_path):
    tiny = str(ROOT / "configs/nam/tiny_procedural.py")
    cfg = load_config(tiny, {"protocol": "test-selected"})
    assert cfg.default_hooks.checkpoint.save_best == [f"procedural_{d}/R1" for d in ("street", "mall", "station")]
    cfg = load_config(tiny, {"protocol": "test-selected", "default_hooks.checkpoint.save_best": None})
    assert cfg.default_hooks.checkpoint.save_best is None
    own = "dict(type='TextReIDDataset', table='t.arrow', split='val', pipeline=[]{})"
    loader = "val_dataloader = dict(dataset=dict(datasets=[{}]))\nprotocol = 'test-selected'"
    cfg = load_config(write(tmp_path, loader.format(own.format(", name='mine'"))))
    assert cfg.default_hooks.checkpoint.save_best == ["mine/R1"]
    with pytest.raises(ValueError, match="TextReIDDataset states no name"):
        load_config(write(tmp_path, loader.format(own.format(""))))


@pytest.fixture
def own_dataset():
    @DATASETS.register_module(force=True)
    class Subclass(CUHKPEDES):
        def __init__(self, *args, tag="", **kwargs):
            super().__init__(*args, **kwargs)

    yield Subclass
    DATASETS.module_dict.pop("Subclass")


def test_a_subclass_takes_what_its_bases_take(tmp_path, own_dataset):
    member = "dict(type='Subclass', data_root='data/CUHK-PEDES', split='val', pipeline=[])"
    path = write(tmp_path, f"val_dataloader = dict(dataset=dict(datasets=[{member}]))")
    at = "val_dataloader.dataset.datasets.0"
    cfg = load_config(path, {"protocol": "paper-val", f"{at}.tag": "x", f"{at}.table": "t.arrow"})
    (dataset,) = cfg.val_dataloader.dataset.datasets
    assert (dataset.protocol, dataset.tag, dataset.table) == ("paper-val", "x", "t.arrow")
    for wrong in ("tabel", "args", "kwargs", "self"):
        with pytest.raises(KeyError, match=f"'{wrong}' names nothing"):
            load_config(path, {f"{at}.{wrong}": 1})


def test_a_member_with_a_protocol_of_its_own_is_refused(tmp_path):
    member = "dict(type='CUHKPEDES', data_root='x', split='val', pipeline=[], protocol='{}')"
    loader = "val_dataloader = dict(dataset=dict(datasets=[{}]))"
    load_config(write(tmp_path, loader.format(member.format("val"))))
    with pytest.raises(ValueError, match=r"CUHKPEDES states protocol='paper-val', the config 'val'"):
        load_config(write(tmp_path, loader.format(member.format("paper-val"))))


def test_start_is_what_is_resumed_or_loaded(tmp_path):
    def start(how, **options):
        cfg = load_config(FLAGSHIP, options)
        cfg.work_dir = str(tmp_path / "run")
        set_start(cfg, how)
        return cfg.resume, cfg.load_from, cfg.model.init_cfg is None

    first, last = tmp_path / "first.pth", tmp_path / "run/epoch_2.pth"
    first.touch()
    assert start(None) == (False, None, False)
    assert start("auto") == (False, None, False)
    assert start(None, load_from=str(first)) == (False, str(first), True)
    assert start("auto", load_from=str(first)) == (False, str(first), True)
    last.parent.mkdir()
    last.touch()
    (tmp_path / "run/last_checkpoint").write_text(str(last))
    assert start("auto", load_from=str(first)) == (True, str(last), True)
    assert start(None, resume=True) == (True, str(last), True)
    assert start(str(first)) == (True, str(first), True)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth does not exist"):
        start("nowhere.pth")


def test_weights_that_are_missing_stop_at_once(tmp_path):
    def check(**init_cfg):
        path = ROOT / "configs" / ("unipt/vit_b16_cuhk.py" if len(init_cfg) > 1 else "nam/clip_b16_luperson.py")
        check_weights(load_config(str(path), {f"model.init_cfg.{key}": value for key, value in init_cfg.items()}))

    there, bert = tmp_path / "my weights.pth", "google-bert/bert-base-uncased"
    there.touch()
    lost, folder = f"{tmp_path}/lost.pth", f"{tmp_path}/lost"
    check(checkpoint=str(there))
    check(checkpoint="openai/clip-vit-base-patch16")
    check(checkpoint=lost, image=str(there), text=bert)  # each encoder has a file of its own
    check(checkpoint=None, image="https://example.org/vit.pth", text=str(tmp_path))
    check(checkpoint=str(there), image=None)
    for given, key in (
        (dict(checkpoint=lost), "checkpoint"),
        (dict(checkpoint=lost, text=bert), "checkpoint"),
        (dict(checkpoint=lost, image=str(there)), "checkpoint"),
        (dict(checkpoint=str(there), image=lost), "image"),
        (dict(checkpoint=None, text=folder), "text"),
    ):
        message = rf"\.{key}: the weights {given[key]} do not exist.* --cfg-options model\.init_cfg\.{key}="
        with pytest.raises(FileNotFoundError, match=message):
            check(**given)
    with pytest.raises(KeyError, match=r"'imgae' names nothing\. Did you mean 'image'"):
        load_config(str(ROOT / "configs/unipt/vit_b16_cuhk.py"), {"model.init_cfg.imgae": lost})
    with pytest.raises(KeyError, match="'image' names nothing"):
        load_config(FLAGSHIP, {"model.init_cfg.image": lost})


def test_ranks_want_equal_shares():
    cfg = load_config(FLAGSHIP)
    check_shares(cfg)
    cfg.train_dataloader.sampler.round_up = False
    with pytest.raises(ValueError, match=r"sampler\.round_up is False, .*leave it out"):
        check_shares(cfg)


def test_own_table_and_its_images_are_checked(tmp_path):
    member = f"dict(type='TextReIDDataset', table='{tmp_path}/t.arrow', split='test', pipeline=[])"
    path = write(tmp_path, f"test_dataloader = dict(dataset=dict(datasets=[{member}]))")
    with pytest.raises(FileNotFoundError, match=r"Caption table .*t\.arrow does not exist"):
        check_data(load_config(path), ("test_dataloader",))
    columns = dict(image=["a.jpg"], caption=["A man."], pid=[0], image_id=[0], split="test")
    write_caption_table(tmp_path / "t.arrow", [columns], "mine", str(tmp_path / "images"))
    for call in (
        lambda: check_data(load_config(path), ("test_dataloader",)),
        lambda: TextReIDDataset(tmp_path / "t.arrow", []),
    ):
        with pytest.raises(FileNotFoundError, match=r"mine: the image folder .*images does not exist"):
            call()
    (tmp_path / "images").mkdir()
    check_data(load_config(path), ("test_dataloader",))


def test_missing_data_names_folder_and_page(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/LUPerson-MLLM.*docs/data\.md"):
        check_data(load_config(FLAGSHIP), ("train_dataloader",))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_every_config_builds(path):
    cfg = load_config(str(path))
    assert {key for key in cfg if not key.startswith("_")} <= TOP_LEVEL_KEYS
    model = copy.deepcopy(cfg.model)
    # The architecture's arguments are checked at a size that builds in no time.
    for encoder in (model.image_encoder, model.text_encoder):
        encoder.update({key: size for key, size in SMALL.items() if key in encoder})
    MODELS.build(model)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        node = cfg.get(loader)
        if node:
            members = node.dataset.get("datasets", [node.dataset])
            for member in members:
                for step in member.pipeline:
                    TRANSFORMS.build(step)
    for hook in cfg.get("custom_hooks", []):
        HOOKS.build(hook)
    for hook in cfg.default_hooks.values():
        HOOKS.build(hook)
    for evaluator in ("val_evaluator", "test_evaluator"):
        if cfg.get(evaluator):
            METRICS.build(cfg[evaluator])


@pytest.mark.parametrize("part", ["image_encoder", "text_encoder"])
def test_models_refuse_unknown_arguments(part):
    cfg = load_config(FLAGSHIP)
    cfg.model[part]["dropuot"] = 0.1
    with pytest.raises(TypeError, match="dropuot"):
        MODELS.build(cfg.model)


def test_flagship_is_the_published_recipe():
    cfg = load_config(FLAGSHIP)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer, params=[parameter]))
    assert isinstance(optimizer, torch.optim.Adam)
    assert {k: optimizer.defaults[k] for k in ("lr", "betas", "eps", "weight_decay")} == dict(
        lr=1e-5, betas=(0.9, 0.999), eps=1e-3, weight_decay=4e-5
    )
    schedulers = [PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer)) for s in cfg.param_scheduler]
    for epoch in range(30):
        factor = 0.1 + 0.9 * epoch / 5 if epoch < 5 else (1 + math.cos(math.pi * (epoch - 5) / 25)) / 2
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-5 * factor, rel=1e-9), epoch
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert cfg.train_cfg.max_epochs == 30
    assert cfg.train_dataloader.batch_size * 8 == 512
