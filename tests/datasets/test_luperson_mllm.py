import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets import LUPersonMLLM, luperson_mllm, write_caption_table
from mmreid_text.datasets.luperson_mllm import SOURCES
from mmreid_text.datasets.published import DataWarning
from mmreid_text.randomness import uniform

pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")


@pytest.fixture
def root(luperson_root):
    return luperson_root / "LUPerson-MLLM"


def edit(root, source, change):
    path = root / f"captions/{source}.json"
    content = json.loads(path.read_text())
    content = change(content) or content
    path.write_text(json.dumps(content))


def by_image(table):
    """Captions by image and source, as the table has them."""
    found = {}
    for source in table.sources:
        part = table.filter_sources([source])
        for i in range(len(part)):
            found.setdefault(part.image(i), {})[source] = part.caption(i)
    return found


def test_four_files_are_joined_by_base_name(root):
    dataset = LUPersonMLLM(root, pipeline=[])
    assert (dataset.num_ids, dataset.num_images, len(dataset)) == (32, 32, 128)
    first = [dataset[i] for i in range(5)]
    assert [item["caption"].split(":")[0] for item in first] == [*SOURCES, SOURCES[0]]
    assert [item["pid"] for item in first] == [item["image_id"] for item in first] == [0, 0, 0, 0, 1]
    assert first[4]["img_path"] == str(root / "images/000007_1.jpg")
    assert [dataset[i]["caption_id"] for i in range(128)] == list(range(128))


def test_images_in_the_root_and_captions_in_caption(root):
    before = LUPersonMLLM(root)
    for path in (root / "images").iterdir():
        path.rename(root / path.name)
    (root / "images").rmdir()
    (root / "captions").rename(root / "caption")
    after = LUPersonMLLM(root)
    assert after.fingerprint == before.fingerprint
    assert after[0]["img_path"] == str(root / "000000_0.jpg")


def test_sources_and_number_of_images(root):
    dataset = LUPersonMLLM(root, sources=["Td-qwen", "Ts-shikra"])
    assert {dataset[i]["caption"].split(":")[0] for i in range(len(dataset))} == {"Td-qwen", "Ts-shikra"}
    assert len(dataset) == 64
    images = {}
    for number in (4, 16, 32):
        dataset = LUPersonMLLM(root, num_images=number)
        items = [dataset[i] for i in range(len(dataset))]
        images[number] = {item["img_path"] for item in items}
        assert len(images[number]) == number
        assert [item["pid"] for item in items] == [i // 4 for i in range(4 * number)]
    assert images[4] < images[16] < images[32]
    with pytest.raises(ValueError, match=r"num_images=33 must lie in 1\.\.32"):
        LUPersonMLLM(root, num_images=33)
    with pytest.raises(ValueError, match=r"no caption source \['Ts-gpt'\]"):
        LUPersonMLLM(root, sources=["Ts-gpt"])
    with pytest.raises(ValueError, match="split 'train' only, but split='test'"):
        LUPersonMLLM(root, split="test")


def test_cleaning_takes_a_clean_static_caption(root):
    def soil(name, text):
        return lambda content: content.update({key: text for key in content if key.endswith(name)})

    edit(root, "Td-qwen", soil("000000_0.jpg", "Here is the [image description] you want"))
    edit(root, "Ts-qwen", soil("000007_1.jpg", "A man <unk>"))
    for source in SOURCES:
        edit(root, source, soil("000014_2.jpg", "<s>"))
    edit(root, "Ts-qwen", soil("000021_0.jpg", "no < here"))
    edit(root, "Td-shikra", soil("000021_0.jpg", "[description]"))
    with pytest.warns(DataWarning, match=r"4 captions contain .* \(first: '000014_2.jpg'\).* 1 images with them"):
        table = LUPersonMLLM.load(root)
    found = by_image(table)
    assert found["000000_0.jpg"]["Td-qwen"] in (found["000000_0.jpg"]["Ts-qwen"], found["000000_0.jpg"]["Ts-shikra"])
    assert found["000007_1.jpg"]["Ts-qwen"] == found["000007_1.jpg"]["Ts-shikra"]
    assert found["000007_1.jpg"]["Ts-shikra"].startswith("Ts-shikra")
    assert set(found["000021_0.jpg"].values()) == {
        found["000021_0.jpg"]["Ts-shikra"],
        found["000021_0.jpg"]["Td-qwen"],
    }
    assert "000014_2.jpg" not in found
    assert len(found) == 31
    assert table.pid.tolist() == [i // 4 for i in range(124)]
    assert any(note.startswith("4 captions with 'description]'") for note in table.info["notes"])


def naive_join(files, names):
    """The published rule, image by image, with swaps restricted to clean captions."""
    joined = {}
    for name in sorted(names):
        texts = {s: captions[name] for s, captions in files.items() if name in captions}
        static = [texts[s] for s in SOURCES if s in texts and s.startswith("Ts") and not dirty(texts[s])]
        kept = {}
        for source, text in texts.items():
            if dirty(text):
                if not static:
                    continue
                code = SOURCES.index(source)
                draw = uniform(0, 0, np.array([zlib.crc32(name.encode())]), "LUPersonMLLM.clean", 4)[0, code]
                text = static[int(draw * len(static))]
            kept[source] = text
        if kept:
            joined[name] = kept
    return joined


def dirty(text):
    return "description]" in text or "<" in text


stems = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=8)
texts = st.sampled_from(["a man", "one [description]", "x < y", "<", "", "une femme élégante", "男人"])


@settings(max_examples=40, deadline=None)
@given(data=st.data(), chunk=st.integers(1, 5))
def test_join_equals_a_naive_loop(tmp_path_factory, data, chunk):
    root = tmp_path_factory.mktemp("root")
    names = [f"{stem}.jpg" for stem in data.draw(st.lists(stems, min_size=1, max_size=9, unique=True))]
    folder = data.draw(st.sampled_from(["/data0/a b/", "", "C:\\lup\\", "../x/"]))
    (root / "captions").mkdir()
    files = {}
    for source in data.draw(st.lists(st.sampled_from(SOURCES), min_size=1, unique=True)):
        files[source] = data.draw(st.dictionaries(st.sampled_from([*names, "stranger.jpg"]), texts))
        content = {folder + name: text for name, text in files[source].items()}
        (root / f"captions/{source}.json").write_text(json.dumps(content))
    for name in names:
        (root / name).touch()
    expected = naive_join(files, names)
    if not any(name in captions for captions in files.values() for name in names):
        with pytest.raises(FileNotFoundError, match="joined by file name"):
            LUPersonMLLM.load(root)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(luperson_mllm, "CHUNK_IMAGES", chunk)
        table = LUPersonMLLM.load(root)
    assert by_image(table) == expected
    assert list(table.images()) == sorted(expected)
    assert table.pid.tolist() == table.image_id.tolist()
    assert sorted(set(table.pid.tolist())) == list(range(len(expected)))


def test_prepared_table_gives_the_same_items(root, tmp_path):
    tree = LUPersonMLLM.read(root)
    path = tmp_path / "t.arrow"
    write_caption_table(path, tree.chunks, "luperson_mllm", "moved", tree.sources, {"notes": tree.notes})
    for options in ({}, {"num_images": 9}, {"sources": ["Td-shikra"], "num_images": 9}):
        mapped, direct = LUPersonMLLM(root, table=path, **options), LUPersonMLLM(root, **options)
        assert mapped.fingerprint == direct.fingerprint
        assert [mapped[i] for i in range(len(mapped))] == [direct[i] for i in range(len(direct))]


def test_what_is_absent_is_counted(root):
    for name in ("000000_0.jpg", "000007_1.jpg"):
        (root / "images" / name).unlink()
    with pytest.warns(DataWarning, match=r"Ts-qwen.json: 2 of 32 captions belong to images that are not in .*000000_0"):
        assert LUPersonMLLM(root).num_images == 30
    (root / "images/none.jpg").touch()
    with pytest.warns(DataWarning, match=r"1 of 31 images have a caption in none of the files \(first: 'none.jpg'\)"):
        assert LUPersonMLLM(root).num_images == 30
    edit(root, "Td-qwen", lambda content: dict(list(content.items())[:20]))
    with pytest.warns(DataWarning, match=r"12 of 31 images have captions in some of the 4 files only .*000140_2"):
        assert len(LUPersonMLLM(root)) == 4 * 30 - 12
    (root / "captions/Ts-shikra.json").unlink()
    with pytest.warns(DataWarning, match=r"1 of 4 caption files are absent \(Ts-shikra.json\)"):
        assert len(LUPersonMLLM(root)) == 3 * 30 - 12
    edit(root, "Ts-qwen", lambda content: {**content, "/elsewhere/000014_2.jpg": "The later one."})
    with pytest.warns(DataWarning, match=r"1 captions share their file name with another path's .*elsewhere|000014_2"):
        assert LUPersonMLLM(root)[0]["caption"] == "The later one."


def test_missing_and_broken_files_are_named(root, tmp_path, monkeypatch):
    path = root / "captions/Td-qwen.json"
    original = path.read_text()
    path.write_text(original[:-5])
    with pytest.raises(ValueError, match=r"Td-qwen.json is not valid JSON"):
        LUPersonMLLM(root)
    path.write_text(json.dumps([1]))
    with pytest.raises(ValueError, match=r"Td-qwen.json holds a JSON list, but the published file is a dict"):
        LUPersonMLLM(root)
    for bad in (["two", "captions"], None):
        path.write_text(json.dumps({**json.loads(original), "/a/b.jpg": bad}))
        with pytest.raises(ValueError, match=r"Td-qwen.json: the caption of '/a/b.jpg' is .*, but must be one string"):
            LUPersonMLLM(root)
    path.write_text(original)
    for call in (LUPersonMLLM, LUPersonMLLM.check_files):
        with pytest.raises(FileNotFoundError, match=r"data folder .*nowhere does not exist.*docs/data.md"):
            call(data_root=tmp_path / "nowhere")
    (root / "captions").rename(root / "texts")
    for call in (LUPersonMLLM, LUPersonMLLM.check_files):
        with pytest.raises(FileNotFoundError, match=r"no caption file \(Ts-qwen.json, .*captions or .*docs/data.md"):
            call(data_root=root)
    (root / "texts").rename(root / "captions")
    with monkeypatch.context() as patch:  # a million names are not listed to see that files are there
        patch.setattr(luperson_mllm, "image_names", None)
        LUPersonMLLM.check_files(data_root=root)
    for image in (root / "images").iterdir():
        image.unlink()
    with pytest.raises(FileNotFoundError, match=r"no \.jpg image lies in"):
        LUPersonMLLM(root)
