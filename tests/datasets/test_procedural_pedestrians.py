"""The dataset of procedural people: items, cache, resume, concurrency, wrong tokens, ceiling."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmreid_text.datasets import ConcatDataset, ProceduralPedestrians
from mmreid_text.datasets.transforms.tokenizer import clean_text, get_tokenizer
from mmreid_text.evaluation.ranking import rank
from mmreid_text.procedural import World, cache
from mmreid_text.procedural.cache import cached_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("procedural")


def source(folder: Path, **changes: object) -> ProceduralPedestrians:
    return ProceduralPedestrians(**{"domain": "source", "num_ids": 40, "cache_dir": folder, **changes})


def test_training_items(folder: Path) -> None:
    dataset = source(folder)
    assert (len(dataset), dataset.num_ids, dataset.num_images) == (160, 40, 40)
    assert dataset.name == "procedural_source"
    item = dataset[9]
    world = World("source", 40, size=(64, 32))
    assert np.array_equal(item["img"], world.render(2))
    assert item["img"].flags.writeable
    assert item["caption"] == world.captions(2)[1].text
    assert (item["pid"], item["image_id"], item["caption_id"], item["draw_key"]) == (2, 2, 9, (0, 0, 9))
    assert "img_path" not in item


def test_test_items_and_protocol(folder: Path) -> None:
    dataset = ProceduralPedestrians("street", "test", num_ids=6, cache_dir=folder)
    assert (len(dataset), dataset.num_ids, dataset.num_captions) == (18, 6, 36)
    item = dataset[4]
    assert len(item["captions"]) == 2
    assert (item["pid"], item["caption_id"], item["dataset"]) == (1, 8, "procedural_street")
    selected = ProceduralPedestrians("street", "val", num_ids=6, cache_dir=folder, protocol="test-selected")
    assert np.array_equal(selected.images, dataset.images)
    own = ProceduralPedestrians("street", "val", num_ids=6, cache_dir=folder)
    assert not np.array_equal(own.images, dataset.images)
    joined = ConcatDataset([dataset, ProceduralPedestrians("mall", "test", num_ids=4, cache_dir=folder)])
    assert len(joined) == 30
    assert joined[29]["dataset"] == "procedural_mall"


def test_sources(folder: Path) -> None:
    dataset, everything = source(folder, sources=["Td-qwen", "Td-shikra"]), source(folder)
    assert len(dataset) == 80
    assert [dataset[i]["caption"] for i in (0, 1, 2)] == [everything[i]["caption"] for i in (1, 3, 5)]
    for ours, whole in zip(dataset.token_truth(), everything.token_truth()):
        assert np.array_equal(ours, whole.reshape(40, 4, 75)[:, [1, 3]].reshape(80, 75))
    query = dataset.oracle_features()[0]
    assert np.array_equal(query[:2], everything.oracle_features()[0][[1, 3]])
    assert dataset.fingerprint != everything.fingerprint
    with pytest.raises(ValueError, match="sources=\\['Tx'\\]"):
        source(folder, sources=["Tx"])


@pytest.mark.parametrize(("key", "value"), [("split", "dev"), ("protocol", "best"), ("domain", "moon")])
def test_bad_arguments_are_named(folder: Path, key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{key}.*'{value}'|'{value}'.*{key}|{key} '{value}'"):
        source(folder, **{key: value})


def test_wrong_tokens_spell_the_wrong_words(folder: Path) -> None:
    dataset = source(folder, noise_rate=0.4)
    world, tokenizer = World("source", 40, noise_rate=0.4), get_tokenizer()
    wrong, attribute, real = dataset.token_truth()
    assert wrong.shape == attribute.shape == real.shape == (160, 75)
    assert not (wrong & ~attribute).any()
    assert not (attribute & ~real).any()
    told = [caption for i in range(40) for caption in world.captions(i)]
    for row, caption in enumerate(told):
        assert clean_text(caption.text) == caption.text.lower()
        ids = tokenizer([caption.text])[0]
        assert real[row].sum() == (ids > 0).sum() - 2
        words = "".join(caption.text[start:end].lower().replace(" ", "") for start, end in caption.wrong)
        tokens = tokenizer.decode(ids[1:76][wrong[row]])
        assert "".join(token.replace("</w>", "").strip() for token in tokens).replace(" ", "") == words
    assert 0.35 < wrong.sum() / attribute.sum() < 0.45


def test_ceiling(folder: Path) -> None:
    dataset = ProceduralPedestrians("mall", "test", num_ids=60, cache_dir=folder)
    query, gallery, query_pid, gallery_pid = dataset.oracle_features()
    assert (len(query), len(gallery)) == (180, 180)
    assert 85 < rank(query, gallery, query_pid, gallery_pid)["R1"] <= 100


def test_pickles_small_and_maps_again(folder: Path) -> None:
    dataset = source(folder)
    expected = dataset[5]["img"]
    data = pickle.dumps(dataset)
    assert len(data) < 100_000
    assert np.array_equal(pickle.loads(data)[5]["img"], expected)


def test_the_cache_is_used_and_depends_on_what_it_should(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source(folder).images_path
    monkeypatch.setattr(World, "render", lambda *_: pytest.fail("rendered again"))
    assert source(folder, noise_rate=0.0, sources=["Ts-qwen"]).images_path == path
    monkeypatch.undo()
    others = [
        source(folder, **change).images_path for change in ({"world_seed": 1}, {"size": (32, 16)}, {"split": "val"})
    ]
    assert len({path, *others}) == 4


def test_a_killed_rendering_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("street", 10, size=(16, 8))
    expected = np.stack([world.render(i) for i in range(len(world))])
    monkeypatch.setattr(cache, "_CHUNK", 4)
    drawn: list[int] = []
    draw = World.render

    def stop(self: World, index: int) -> np.ndarray:
        if len(drawn) == 14:
            raise KeyboardInterrupt
        drawn.append(index)
        return draw(self, index)

    monkeypatch.setattr(World, "render", stop)
    with pytest.raises(KeyboardInterrupt):
        cached_images(world, tmp_path)
    assert not list(tmp_path.glob("*.npy"))
    again: list[int] = []
    monkeypatch.setattr(World, "render", lambda self, index: (again.append(index), draw(self, index))[1])
    path = cached_images(world, tmp_path)
    assert again == list(range(12, 30)), "three chunks of four were kept"
    assert np.array_equal(np.load(path), expected)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".npy"]


def test_processes_at_once_make_one_whole_file(tmp_path: Path) -> None:
    code = (
        "import sys; from mmreid_text.procedural import World; from mmreid_text.procedural.cache import cached_images;"
        "print(cached_images(World('mall', 60, size=(32, 16)), sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {process.communicate(timeout=100)[0].strip() for process in running}
    assert len(paths) == 1
    world, images = World("mall", 60, size=(32, 16)), np.load(paths.pop())
    assert all(np.array_equal(images[i], world.render(i)) for i in range(0, 180, 17))
