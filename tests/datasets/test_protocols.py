"""Protocols on published files whose ids start anywhere, have gaps, and have one image or many."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets import CUHKPEDES, ICFGPEDES, LUPersonMLLM, RSTPReid
from mmreid_text.datasets.splits import PROTOCOLS, held_out_identities
from mmreid_text.evaluation import ReIDMetric

pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")
READERS = [CUHKPEDES, ICFGPEDES, RSTPReid]

# How ids run within a split: from 1, from anywhere, with gaps, beyond int64, below 0.
ID_RUNS = {
    "from 0": lambda i: i,
    "from 1": lambda i: i + 1,
    "gaps": lambda i: 3 + 7 * i + i // 3,
    "huge": lambda i: 10**12 + 10**9 * i,
    "beyond int64": lambda i: 2**70 + i,
    "negative": lambda i: i - 5,
}


def write_tree(root, reader, counts, ids, captions=2):
    """A dataset in the published layout; ``counts`` holds the images of each identity, by split."""
    entries, number = [], 0
    for split, images_of in counts.items():
        for images in images_of:
            for view in range(images):
                name = f"cam_a/{number:04d}_{view}.jpg"
                entries.append(
                    {
                        "split": split,
                        "id": ids(number),
                        reader.IMAGE_KEY: name,
                        "captions": [f"Person {number}, view {view}, sentence {c}." for c in range(captions)],
                    }
                )
            number += 1
    (root / "imgs/cam_a").mkdir(parents=True)
    for entry in entries:
        (root / "imgs" / entry[reader.IMAGE_KEY]).touch()
    (root / reader.ANNOTATION).write_text(json.dumps(entries))
    return entries


def evaluate(dataset):
    """ReIDMetric over all items, with features that name the identity: every query has a positive, so R1 is 100."""
    assert dataset.test_mode
    metric = ReIDMetric()
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(dataset.num_ids, 64, generator=generator)
    for i in range(len(dataset)):
        item = dataset[i]
        feats = feature[item["pid"]].expand(len(item["captions"]), -1)
        metric.process(None, [{"dataset": item["dataset"], "image_feat": feats[0], "text_feats": feats, **pick(item)}])
    return metric.evaluate(len(dataset))


def pick(item):
    return {key: item[key] for key in ("pid", "image_id")}


def check_protocol(reader, root, entries, protocol):
    """Every promise of a protocol; returns the images held out."""
    parts = {}
    for split in ("train", "val", "test"):
        dataset = reader(root, split, protocol=protocol)
        items = [dataset[i] for i in range(len(dataset))]
        ids = {str(root / "imgs" / e[reader.IMAGE_KEY]): e["id"] for e in entries}
        labels = {(ids[item["img_path"]], item["pid"]) for item in items}
        assert sorted(pid for _, pid in labels) == list(range(dataset.num_ids))  # without gaps, one per identity
        assert len({identity for identity, _ in labels}) == dataset.num_ids
        assert sorted({item["image_id"] for item in items}) == list(range(dataset.num_images))
        parts[split] = {item["img_path"] for item in items}
        if split != "train":
            metrics = evaluate(dataset)
            assert metrics[f"{reader.name}/R1"] == metrics[f"{reader.name}/i2t_mINP"] == 100
    published = {
        split: {str(root / "imgs" / e[reader.IMAGE_KEY]) for e in entries if e["split"] == split}
        for split in ("train", "val", "test")
    }
    assert parts["test"] == published["test"]
    if protocol == "test-selected":
        assert (parts["train"], parts["val"]) == (published["train"], published["test"])
        return set()
    if protocol == "val" and reader.OWN_VAL:
        assert (parts["train"], parts["val"]) == (published["train"], published["val"])
        return set()
    assert parts["train"] | parts["val"] == published["train"]
    train_ids, val_ids = ({ids[path] for path in parts[split]} for split in ("train", "val"))
    assert not train_ids & val_ids
    assert len(val_ids) == max(round(0.1 * len(train_ids | val_ids)), 1)
    return {path.removeprefix(str(root)) for path in parts["val"]}


images_per_id = st.lists(st.integers(1, 4), min_size=2, max_size=14)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
@settings(max_examples=4, deadline=None)
@given(
    train=images_per_id,
    other=images_per_id,
    runs=st.lists(st.sampled_from(sorted(ID_RUNS)), min_size=2, max_size=2, unique=True),
    captions=st.integers(1, 3),
)
def test_protocols_survive_any_ids(tmp_path_factory, reader, train, other, runs, captions):
    counts = {"train": train, "test": other} | ({"val": other[::-1]} if reader.OWN_VAL else {})
    held = []
    for run in runs:
        root = tmp_path_factory.mktemp("tree")
        entries = write_tree(root, reader, counts, ID_RUNS[run], captions)
        held.append([check_protocol(reader, root, entries, protocol) for protocol in PROTOCOLS])
    assert held[0] == held[1]  # what is held out depends on the order of the ids, not on their values


@pytest.mark.parametrize("run", sorted(ID_RUNS))
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_one_image_and_one_caption_per_identity(tmp_path, reader, run):
    counts = {"train": [1] * 12, "val": [1] * 3, "test": [1] * 4}
    if not reader.OWN_VAL:
        del counts["val"]
    entries = write_tree(tmp_path, reader, counts, ID_RUNS[run], captions=1)
    for protocol in PROTOCOLS:
        check_protocol(reader, tmp_path, entries, protocol)
    train = reader(tmp_path, "train", protocol="test-selected")
    assert (train.num_ids, train.num_images, len(train)) == (12, 12, 12)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_too_few_identities_to_hold_one_out(tmp_path, reader):
    write_tree(tmp_path, reader, {"train": [3], "test": [1]}, ID_RUNS["from 1"])
    with pytest.raises(ValueError, match="needs at least 2 of them, but the training split has 1"):
        reader(tmp_path, "train", protocol="paper-val")
    assert reader(tmp_path, "train", protocol="test-selected").num_ids == 1


def test_the_same_number_in_two_splits_is_two_people(tmp_path):
    """RSTPReid's ids run on over splits, CUHK's copies on the web begin anew in each."""
    entries = write_tree(tmp_path, RSTPReid, {"train": [2, 2, 1], "val": [1, 2], "test": [2]}, lambda i: i)
    first = {"train": 0, "val": 3, "test": 5}
    for entry in entries:
        entry["id"] -= first[entry["split"]]
    (tmp_path / RSTPReid.ANNOTATION).write_text(json.dumps(entries))
    for protocol in PROTOCOLS:
        check_protocol(RSTPReid, tmp_path, entries, protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_luperson_trains_on_all_of_it(luperson_root, protocol):
    dataset = LUPersonMLLM(luperson_root / "LUPerson-MLLM", protocol=protocol)
    assert dataset.num_images == dataset.num_ids == 32


@settings(max_examples=50, deadline=None)
@given(ids=st.lists(st.integers(0, 2**62), min_size=2, max_size=60, unique=True), copies=st.data())
def test_any_number_of_images_holds_the_same_identities_out(ids, copies):
    counts = copies.draw(st.lists(st.integers(1, 5), min_size=len(ids), max_size=len(ids)))
    pid = np.repeat(np.array(ids), counts)
    np.testing.assert_array_equal(held_out_identities(pid), held_out_identities(np.array(ids)))
