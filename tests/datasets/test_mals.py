"""MALS in its published layout."""

import json

import pytest
from conftest import write_jpeg

from mmreid_text.datasets import MALS, write_caption_table
from mmreid_text.datasets.published import DataWarning

pytestmark = pytest.mark.filterwarnings("ignore:MALS. identities / images:mmreid_text.datasets.published.DataWarning")
FOLDERS = ("4x", "c_g_a", "c_g_a_0", "i_g_a")


@pytest.fixture
def root(tmp_path):
    """Four files of three images each; names repeat from folder to folder."""
    root = tmp_path / "MALS"
    for f, folder in enumerate(FOLDERS):
        entries = []
        for i in (10, 9, 8):
            name = f"gene_crop/{folder}/{i}.jpg"
            write_jpeg(root / name, 20 * f + i)
            caption = f"a man in {folder} number {i}"
            label = [1, 0, -1] * 9
            entries.append({"image": name, "caption": caption, "image_id": f"{folder}_{i}", "label": label})
        (root / "gene_attrs").mkdir(exist_ok=True)
        (root / f"gene_attrs/g_{folder}_attrs.json").write_text(json.dumps(entries))
    return root


def test_rows_and_ids(root):
    dataset = MALS(root)
    names = sorted(f"gene_crop/{folder}/{i}.jpg" for folder in FOLDERS for i in (10, 9, 8))
    items = [dataset[i] for i in range(len(dataset))]
    assert [item["img_path"] for item in items] == [str(root / name) for name in names]
    for item in items:
        folder, number = item["img_path"].removesuffix(".jpg").split("/")[-2:]
        assert item["caption"] == f"a man in {folder} number {number}"
    assert [item["pid"] for item in items] == [item["image_id"] for item in items] == list(range(12))
    assert "published: 1,510,330 / 1,510,330 / 1,510,330" in dataset.summary()
    with pytest.raises(ValueError, match="has no split 'test'; it has train"):
        MALS(root, split="test")


def test_images_and_captions_may_lie_elsewhere(root):
    before = MALS(root)
    (root / "images").mkdir()
    (root / "gene_crop").rename(root / "images/gene_crop")
    for path in (root / "gene_attrs").iterdir():
        path.rename(root / path.name)
    after = MALS(root)
    assert after.fingerprint == before.fingerprint
    assert after[0]["img_path"] == str(root / "images/gene_crop/4x/10.jpg")


def test_part_of_the_images_is_told(root):
    (root / "gene_crop/4x/9.jpg").unlink()
    write_jpeg(root / "gene_crop/other/1.jpg", 0)
    with pytest.warns(DataWarning, match=r"1 of 12 captions .* not in .*MALS \(first: 'gene_crop/4x/9\.jpg'\)"):
        dataset = MALS(root)
    assert len(dataset) == 11
    assert any("1 of 12 images have no caption" in note for note in dataset.notes)


@pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")
def test_a_prepared_table_is_mapped(root):
    tree = MALS.read(root)
    extra = {"inputs": MALS.inputs(root)}
    write_caption_table(f"{root}.arrow", tree.chunks, "mals", str(root), extra=extra)
    assert MALS(root).table.path == f"{root}.arrow"
    (root / "gene_crop/4x/9.jpg").rename(root / "gene_crop/4x/7.jpg")
    assert MALS(root).table.path is None


def test_bad_files_are_named(root):
    path = root / "gene_attrs/g_4x_attrs.json"
    original = path.read_text()
    for bad, message in (
        ([{"image": "a.jpg", "caption": ["a", "b"]}], r"byte 1: image is 'a\.jpg' and caption \['a', 'b'\]"),
        ([{"caption": "a"}], r"byte 1: image is None"),
        ({"image": "a"}, "holds a JSON dict, but the published file is a list"),
    ):
        path.write_text(json.dumps(bad))
        with pytest.raises(ValueError, match=rf"g_4x_attrs\.json.*{message}"):
            MALS(root)
    path.write_text(original[:-20])
    with pytest.raises(ValueError, match=r"g_4x_attrs\.json is not valid JSON \(byte \d+: in the entry"):
        MALS(root)
    for path in (root / "gene_attrs").iterdir():
        path.unlink()
    for call in (MALS, MALS.check_files):
        with pytest.raises(
            FileNotFoundError, match=r"no caption file \(g_4x_attrs\.json and 90 others\) lies in .*docs"
        ):
            call(data_root=root)
