import pickle

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from torch.utils.data import DataLoader

from mmreid_text.datasets import CaptionTable, ConcatDataset, TextReIDDataset, write_caption_table
from mmreid_text.registry import DATASETS


def make_table(name="mine", images=4, captions=2, split="train", pid_step=1):
    rows = [(i, k) for i in range(images) for k in range(captions)]
    return CaptionTable.from_columns(
        {
            "image": [f"{i}.jpg" for i, _ in rows],
            "caption": [f"{name} {i} {k}" for i, k in rows],
            "pid": [pid_step * (i // 2) for i, _ in rows],
            "image_id": [i for i, _ in rows],
            "split": split,
        },
        name,
        "folder",
    )


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """The image folders that the tables name, relative to where the tests run."""
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "elsewhere"):
        (tmp_path / name).mkdir()


class Drop(BaseTransform):
    def transform(self, results):
        return None


def test_training_items():
    dataset = TextReIDDataset(make_table(), [], seed=5)
    dataset.set_epoch(3)
    assert len(dataset) == 8
    assert dataset[5] == {
        "img_path": "folder/2.jpg",
        "caption": "mine 2 1",
        "pid": 1,
        "image_id": 2,
        "caption_id": 5,
        "draw_key": (5, 3, 5),
    }
    assert (dataset.num_ids, dataset.num_images, dataset.num_captions) == (2, 4, 8)
    assert dataset.summary().split("\n")[1].split() == ["all", "2", "4", "8"]


def test_test_rows_hold_an_image_with_all_its_captions():
    dataset = TextReIDDataset(make_table(), [], image_root="elsewhere", test_mode=True)
    assert len(dataset) == 4
    assert dataset[3] == {
        "img_path": "elsewhere/3.jpg",
        "captions": ["mine 3 0", "mine 3 1"],
        "pid": 1,
        "image_id": 3,
        "caption_id": 6,
        "dataset": "mine",
    }


def test_labels_count_from_zero_whatever_remains_of_the_table():
    table = make_table(images=10, pid_step=7)
    dataset = TextReIDDataset(table.select(np.arange(4, 20)), [])
    assert [dataset[i]["pid"] for i in range(0, 16, 4)] == [0, 1, 2, 3]
    assert [dataset[i]["image_id"] for i in range(16)] == [i // 2 for i in range(16)]


def test_mapped_table_by_path_and_split(tmp_path):
    columns = {
        "image": ["a", "b"],
        "caption": ["x", "y"],
        "pid": [0, 0],
        "image_id": [0, 0],
        "split": ["train", "test"],
    }
    write_caption_table(tmp_path / "t.arrow", [columns], "mine", "folder")
    cfg = {
        "type": "TextReIDDataset",
        "table": str(tmp_path / "t.arrow"),
        "pipeline": [],
        "split": "test",
        "name": "own",
    }
    dataset = DATASETS.build(cfg)
    assert dataset.test_mode
    assert dataset[0]["captions"] == ["y"]
    assert not TextReIDDataset(tmp_path / "t.arrow", [], split="train").test_mode
    assert not TextReIDDataset(tmp_path / "t.arrow", [], split="test", test_mode=False).test_mode
    assert dataset.metainfo == {"name": "own", "split": "test", "num_ids": 1}
    with pytest.raises(ValueError, match=r"holds the splits \['train', 'test'\]; set `split`"):
        TextReIDDataset(tmp_path / "t.arrow", [])
    with pytest.raises(ValueError, match="no split 'val'"):
        TextReIDDataset(tmp_path / "t.arrow", [], split="val")
    with pytest.raises(FileNotFoundError, match=r"prepare_data.py"):
        TextReIDDataset(tmp_path / "none.arrow", [])


def test_bad_use_is_named():
    with pytest.raises(ValueError, match="no captions left"):
        TextReIDDataset(make_table().select(np.zeros(0, dtype=np.int64)), [])
    with pytest.raises(ValueError, match="Drop dropped item 1 of dataset 'mine'"):
        TextReIDDataset(make_table(), [Drop()])[1]
    with pytest.raises(IndexError, match="Index 8"):
        TextReIDDataset(make_table(), [])[8]
    with pytest.raises(FileNotFoundError, match=r"mine: the image folder nowhere does not exist"):
        TextReIDDataset(make_table(), [], image_root="nowhere")


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_persistent_workers_see_the_epoch(context, workers, tmp_path):
    columns = {"image": ["a"] * 6, "caption": list("uvwxyz"), "pid": [0] * 6, "image_id": [0] * 6}
    write_caption_table(tmp_path / "t.arrow", [columns], "mine")
    member = TextReIDDataset(tmp_path / "t.arrow", [])
    dataset = ConcatDataset([member, member])
    loader = DataLoader(
        dataset, batch_size=3, num_workers=workers, persistent_workers=True, multiprocessing_context=context
    )
    for epoch in (0, 1, 7):
        dataset.set_epoch(epoch)
        dataset.set_seed(100 + epoch)
        batches = list(loader)
        assert torch.cat([batch["draw_key"][0] for batch in batches]).tolist() == [100 + epoch] * 12
        assert torch.cat([batch["draw_key"][1] for batch in batches]).tolist() == [epoch] * 12
        assert torch.cat([batch["caption_id"] for batch in batches]).tolist() == list(range(12))


def test_concat_offsets_ids():
    members = [make_table("a", 4, 2, pid_step=3), make_table("b", 6, 1), make_table("c", 2, 3)]
    dataset = ConcatDataset([TextReIDDataset(table, [], seed=1) for table in members])
    items = [dataset[i] for i in range(len(dataset))]
    assert [item["caption_id"] for item in items] == list(range(8 + 6 + 6))
    assert [item["draw_key"] for item in items] == [(1, 0, i) for i in range(20)]
    assert [item["image_id"] for item in items] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 11, 11, 11]
    assert [item["pid"] for item in items] == [0] * 4 + [1] * 4 + [2, 2, 3, 3, 4, 4] + [5] * 6
    assert (dataset.num_ids, dataset.num_images, dataset.num_captions) == (6, 12, 20)
    assert [dataset.caption(i) for i in range(20)] == [item["caption"] for item in items]
    nested = ConcatDataset([dataset.datasets[0], ConcatDataset(dataset.datasets[1:])])
    assert [nested[i] for i in range(20)] == items
    assert dataset.fingerprint != ConcatDataset(dataset.datasets[::-1]).fingerprint
    assert pickle.loads(pickle.dumps(dataset))[13] == items[13]
    with pytest.raises(IndexError, match="Index 20"):
        dataset[20]


def test_concat_for_testing_reports_each_member():
    tests = [TextReIDDataset(make_table(name), [], test_mode=True) for name in "ab"]
    dataset = DATASETS.build({"type": "ConcatDataset", "datasets": tests, "ignore_keys": ["num_ids"]})
    assert [dataset[i]["dataset"] for i in range(8)] == ["a"] * 4 + ["b"] * 4
    assert [dataset[i]["image_id"] for i in range(8)] == list(range(8))
    assert dataset.metainfo == {"name": "a+b", "split": None}
    assert len(dataset.summary().split("\n")) == 4


def test_concat_refuses_what_cannot_be_joined():
    train, test = (TextReIDDataset(make_table(), [], test_mode=mode) for mode in (False, True))
    with pytest.raises(ValueError, match="training and test mode"):
        ConcatDataset([train, test])
    with pytest.raises(ValueError, match="share a name"):
        ConcatDataset([test, test])
    with pytest.raises(ValueError, match="at least one"):
        ConcatDataset([])
