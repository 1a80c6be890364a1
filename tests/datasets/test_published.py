import json
import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets import CUHKPEDES, ICFGPEDES, CaptionTable, RSTPReid, published, write_caption_table
from mmreid_text.datasets.published import DataWarning, missing_files

pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")
READERS = [CUHKPEDES, ICFGPEDES, RSTPReid]


@pytest.fixture(params=READERS, ids=lambda reader: reader.name)
def tree(request, cuhk_root, icfg_root, rstp_root):
    """A reader and its dataset's folder."""
    roots = {"cuhk_pedes": cuhk_root, "icfg_pedes": icfg_root, "rstpreid": rstp_root}
    return request.param, roots[request.param.name] / request.param.TITLE


def edit(root, reader, change):
    path = root / reader.ANNOTATION
    entries = json.loads(path.read_text())
    entries = change(entries) or entries
    path.write_text(json.dumps(entries))


def test_every_entry_arrives(tree):
    reader, root = tree
    entries = json.loads((root / reader.ANNOTATION).read_text())
    for split in ("train", "test"):
        dataset = reader(root, split, test_mode=False)
        items = [dataset[i] for i in range(len(dataset))]
        expected = {
            (str(root / "imgs" / e[reader.IMAGE_KEY]), c) for e in entries if e["split"] == split for c in e["captions"]
        }
        if split == "test" or reader.OWN_VAL:
            assert {(item["img_path"], item["caption"]) for item in items} == expected
        else:
            assert {(item["img_path"], item["caption"]) for item in items} < expected
        ids = {str(root / "imgs" / e[reader.IMAGE_KEY]): e["id"] for e in entries}
        pairs = {(ids[item["img_path"]], item["pid"]) for item in items}
        assert len(pairs) == dataset.num_ids  # one label per identity
        assert sorted(pid for _, pid in pairs) == list(range(dataset.num_ids))
        assert sorted(pairs) == sorted(pairs, key=lambda pair: pair[1])  # in the order of the ids


def test_splits_and_protocols(tree):
    reader, root = tree
    numbers = {
        (split, protocol): reader(root, split, protocol=protocol).num_ids
        for split in ("train", "val", "test")
        for protocol in ("val", "paper-val", "test-selected")
    }
    test = 4 if reader is ICFGPEDES else 2
    held = 1 if reader is ICFGPEDES else 2
    assert [numbers[s, "val"] for s in ("train", "val", "test")] == [7 if held == 1 else 8, held, test]
    assert [numbers[s, "paper-val"] for s in ("train", "val", "test")] == [7, 1, test]
    assert [numbers[s, "test-selected"] for s in ("train", "val", "test")] == [8, test, test]
    assert [reader(root, split).test_mode for split in ("train", "val", "test")] == [False, True, True]


def test_summary_and_selection_on_test_are_logged(tree, monkeypatch):
    reader, root = tree
    lines = []
    monkeypatch.setattr(published, "log", lines.append)
    dataset = reader(root, "val", protocol="test-selected")
    assert lines[0] == dataset.summary()
    assert "results are selected on test" in lines[1]


def test_counts_are_compared_with_the_published_ones(tree, monkeypatch):
    reader, root = tree
    with pytest.warns(DataWarning, match=r"differ from the published counts: train has 8 / (16|40) / .*docs/data.md"):
        dataset = reader(root)
    assert f"published: {reader.PUBLISHED['train'][0]:,} /" in dataset.summary()
    monkeypatch.setattr(reader, "PUBLISHED", dataset.counts)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        dataset = reader(root)
    lines = dataset.summary().split("\n")
    assert lines[0].split() == [reader.name, "identities", "images", "captions"]
    assert lines[1].split() == ["train", *(f"{n}" for n in dataset.counts["train"]), "as", "published"]


def test_prepared_table_gives_the_same_items(tree, tmp_path):
    reader, root = tree
    parsed = reader.read(root)
    write_caption_table(tmp_path / "t.arrow", parsed.chunks, reader.name, "moved/away", extra={"notes": ["hello"]})
    for split in ("train", "val", "test"):
        mapped, direct = reader(root, split, table=tmp_path / "t.arrow"), reader(root, split)
        assert [mapped[i] for i in range(len(mapped))] == [direct[i] for i in range(len(direct))]
        assert mapped.fingerprint == direct.fingerprint
    assert "note: hello" in mapped.summary()
    other = next(r for r in READERS if r is not reader)
    with pytest.raises(
        ValueError, match=rf"t.arrow is the table of '{reader.name}', not of '{other.name}'.*prepare_data"
    ):
        other(root, table=tmp_path / "t.arrow")


def test_the_table_beside_the_folder_is_mapped_while_it_fits(tree, monkeypatch):
    reader, root = tree
    lines = []
    monkeypatch.setattr(published, "log", lines.append)
    parsed = reader.read(root)
    path = reader.default_table(root)
    assert path == root.parent / f"{root.name}.arrow"
    direct = reader(root)
    assert direct.table.path is None
    write_caption_table(path, parsed.chunks, reader.name, "moved/away", extra={"inputs": reader.inputs(root)})
    mapped = reader(root)
    assert mapped.table.path == str(path)
    assert f"{reader.TITLE}: mapping the prepared table {path}." in lines
    assert mapped.fingerprint == direct.fingerprint
    assert mapped[0] == direct[0]
    edit(root, reader, lambda entries: entries[:-1])
    with pytest.warns(DataWarning, match=rf"{path} was made from other files .*prepare_data.py {reader.name} {root}"):
        assert reader(root).table.path is None


def test_missing_files_are_named(tree, tmp_path):
    reader, root = tree
    for call in (reader, reader.check_files):
        with pytest.raises(FileNotFoundError, match=r"data folder .*nowhere does not exist.*docs/data.md"):
            call(data_root=tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError, match=r"none.arrow does not exist"):
            call(data_root=root, table=tmp_path / "none.arrow")
    reader.check_files(data_root=root)
    (root / reader.ANNOTATION).rename(root / "elsewhere.json")
    for call in (reader, reader.check_files):
        with pytest.raises(FileNotFoundError, match=rf"{reader.ANNOTATION} is missing.*docs/data.md.*elsewhere.json"):
            call(data_root=root)
    (root / "elsewhere.json").rename(root / reader.ANNOTATION)
    shutil.move(root / "imgs", root / "images")
    for call in (reader, reader.check_files):
        with pytest.raises(FileNotFoundError, match=r"image folder .*imgs does not exist.*docs/data.md"):
            call(data_root=root)


def test_missing_images_are_counted_by_folder(tree):
    reader, root = tree
    names = [e[reader.IMAGE_KEY] for e in json.loads((root / reader.ANNOTATION).read_text())]
    for name in names[:3]:
        (root / "imgs" / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"{reader.ANNOTATION}: 3 of {len(names)} images are not under"
    ) as error:
        reader(root)
    assert repr(min(names[:3])) in str(error.value)


def test_missing_image_folder_is_named(cuhk_root):
    shutil.rmtree(cuhk_root / "CUHK-PEDES/imgs/Market")
    with pytest.raises(FileNotFoundError, match=r"3 of 24 images are not under .*3 in Market/.*folder layout"):
        CUHKPEDES(cuhk_root / "CUHK-PEDES")


def test_broken_json(tree):
    reader, root = tree
    path = root / reader.ANNOTATION
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ValueError, match=rf"{reader.ANNOTATION} is not valid JSON .*Fetch it again"):
        reader(root)
    path.write_text("{}")
    with pytest.raises(ValueError, match="holds a JSON dict, but the published file is a list"):
        reader(root)
    path.write_text("[]")
    with pytest.raises(ValueError, match="no captioned image"):
        reader(root)


@pytest.mark.parametrize("captions", [[], None, "absent"])
def test_entries_without_captions_are_counted(tree, captions):
    reader, root = tree

    def change(entries):
        for entry in entries[:2]:
            if captions == "absent":
                del entry["captions"]
            else:
                entry["captions"] = captions

    first = json.loads((root / reader.ANNOTATION).read_text())[0][reader.IMAGE_KEY]
    before = reader(root, protocol="test-selected")
    edit(root, reader, change)
    with pytest.warns(DataWarning, match=rf"2 of \d+ entries have no caption \(first: '{first}'\).*left out"):
        after = reader(root, protocol="test-selected")
    assert before.num_images - after.num_images == 2
    assert "2 of" in after.summary()


def test_entries_in_another_format(tree):
    reader, root = tree
    original = (root / reader.ANNOTATION).read_text()
    key = reader.IMAGE_KEY
    cases = [
        (lambda e: e[7].pop("id"), r"entry 7 lacks the key 'id'; it has \["),
        (lambda e: e[7].pop(key), rf"entry 7 lacks the key '{key}'"),
        (lambda e: e[7].pop("split"), "entry 7 lacks the key 'split'"),
        (lambda e: e[7].update(split="dev"), "entry 7 has split 'dev'; allowed"),
        (lambda e: e[7].update(id="7"), "id '7', but must be a whole number"),
        (lambda e: e[7].update(captions="one"), "captions 'one', but must be a list"),
        (lambda e: e[7].update(captions=[3]), r"captions \[3\], but must be a list of strings"),
        (lambda e: e[7].update({key: ""}), f"has {key} '', but must name an image"),
        (lambda e: e.__setitem__(7, "text"), "entry 7 is a str"),
        (lambda e: e[7].update({key: e[0][key]}), "has the ids"),
    ]
    for change, message in cases:
        (root / reader.ANNOTATION).write_text(original)
        edit(root, reader, lambda entries, change=change: change(entries) and None)
        with pytest.raises(ValueError, match=message):
            reader(root)


def test_id_gap_is_reported_and_harmless(tree):
    reader, root = tree

    def change(entries):
        for entry in entries:
            if entry["split"] == "train" and entry["id"] >= 5:
                entry["id"] += 1_000_000_000

    before = reader(root, protocol="test-selected")
    edit(root, reader, change)
    with pytest.warns(DataWarning, match=r"ids of split 'train' run from . to 100000000. but 1,000,000,000 .* absent"):
        after = reader(root, protocol="test-selected")
    assert [after[i] for i in range(len(after))] == [before[i] for i in range(len(before))]


def test_an_image_listed_twice_keeps_all_captions(tree):
    reader, root = tree
    edit(root, reader, lambda entries: [*entries, {**entries[0], "captions": ["One more."]}])
    dataset = reader(root, protocol="test-selected", test_mode=True)
    assert sum(dataset[i]["captions"][-1] == "One more." for i in range(len(dataset))) == 1
    assert len(dataset) == dataset.num_images

    edit(root, reader, lambda entries: [*entries, {**entries[0], "split": "test"}])
    with pytest.warns(DataWarning, match=r"1 images stand in more than one split"):
        reader(root)


entry_lists = st.lists(
    st.tuples(
        st.sampled_from(["train", "val", "test"]),
        st.integers(-5, 3) | st.integers(10**6, 10**9),
        st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3),
    ),
    min_size=1,
    max_size=12,
)
odd_names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=12
).filter(lambda name: name.strip(".") != "")


@settings(max_examples=40, deadline=None)
@given(
    rows=entry_lists,
    folders=st.lists(odd_names, min_size=12, max_size=12),
    names=st.lists(odd_names, min_size=12, max_size=12),
)
def test_parser_keeps_every_caption(tmp_path_factory, rows, folders, names):
    root = tmp_path_factory.mktemp("root")
    entries = []
    for i, (split, identity, captions) in enumerate(rows):
        name = f"{folders[i]}/{i}{names[i]}"
        (root / "imgs" / folders[i]).mkdir(parents=True, exist_ok=True)
        (root / "imgs" / name).touch()
        entries.append({"split": split, "id": identity, "img_path": name, "captions": captions})
    (root / "data_captions.json").write_text(json.dumps(entries))
    if not any(entry["captions"] for entry in entries):
        with pytest.raises(ValueError, match="no captioned image"):
            RSTPReid.load(root)
        return
    table = RSTPReid.load(root)
    found, labels = {}, {}
    for i in range(len(table)):
        found.setdefault(table.image(i), []).append(table.caption(i))
        labels[table.image(i)] = table.ids(i)[0]
    assert found == {e["img_path"]: e["captions"] for e in entries if e["captions"]}
    for split in table.splits:
        ids = {e["img_path"]: e["id"] for e in entries if e["split"] == split and e["captions"]}
        order = sorted(set(ids.values()))
        assert {image: labels[image] for image in ids} == {image: order.index(i) for image, i in ids.items()}
    assert table.info["summary"].keys() == set(table.splits)
    assert isinstance(table, CaptionTable)
    assert (np.diff(table.first_rows()) > 0).all()


def test_missing_files_lists_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").touch()
    (tmp_path / "2.jpg").touch()
    paths = ["a/1.jpg", "a/3.jpg", "2.jpg", "b/1.jpg", "2.jpg/x.jpg"]
    assert missing_files(tmp_path, paths) == ["a/3.jpg", "b/1.jpg", "2.jpg/x.jpg"]
