"""Searches of the page against the gallery's own and against encoding everything."""

import doctest
import os

import numpy as np
import pytest
from gallery_crops import inferencer, write_crop, write_crops
from hypothesis import given, settings
from hypothesis import strategies as st
from png_bomb import png_bomb

from mmreid_text.apis import Gallery
from mmreid_text.gallery.filters import parse
from mmreid_text.page import gallery_search
from mmreid_text.page.gallery_search import MAX_UPLOAD, PER_PAGE, GallerySearch, condition
from mmreid_text.page.query import MAX_PICTURES, Facet, Query, Upload

pytest.importorskip("faiss")
PATTERN = r"(?P<number>\d+)_(?P<camera>c\d)"
COUNT = 40


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    write_crops(folder / "crops", COUNT)
    return GallerySearch(Gallery.build(folder / "crops", inferencer(), folder / "index", pattern=PATTERN))


def test_pages_are_the_gallerys_ranking_in_pieces(search):
    sentence = "a woman in a red coat"
    wanted = search.gallery.search(sentence, COUNT)
    found = [search.find(Query((sentence,), page=page)) for page in range(-(-COUNT // PER_PAGE))]
    crops = [crop for page in found for crop in page.columns[0]]
    assert [(crop.hit.path, crop.rank) for crop in crops] == [(hit.path, i) for i, hit in enumerate(wanted, 1)]
    np.testing.assert_allclose([crop.hit.score for crop in crops], [hit.score for hit in wanted], atol=1e-6)
    assert {(page.pages, page.matching) for page in found} == {(len(found), COUNT)}
    assert all(crop.thumbnail.startswith("data:image/jpeg;base64,") for crop in crops)


@pytest.mark.parametrize(("page", "shown"), [(-3, 0), (2, 2), (10**9, 2)])
def test_pages_out_of_range_are_the_first_or_the_last(search, page, shown):
    assert search.find(Query(("a man",), page=page)).query.page == shown


def test_two_sentences_share_a_page(search):
    found = search.find(Query(("a woman", "a man"), page=1))
    for sentence, column in zip(found.query.sentences, found.columns, strict=True):
        wanted = search.gallery.search(sentence, PER_PAGE)[PER_PAGE // 2 :]
        assert [crop.hit.path for crop in column] == [hit.path for hit in wanted]


def test_a_query_is_half_sentence_half_mean_of_the_pictures(search):
    names = sorted(search.gallery.table.column("path").to_pylist())
    pictures = (search.liked(names[3]), search.liked(names[8]))
    feats = inferencer().encode_image([search.gallery.root / name for name in names]).astype(np.float64)
    mean = (feats[3] + feats[8]) / 2
    mean /= np.linalg.norm(mean)
    text = inferencer().encode_text(["a red coat"])[0].astype(np.float64)
    for sentences, query in (((), mean), (("a red coat",), text + mean)):
        scores = feats @ (query / np.linalg.norm(query))
        (column,) = search.find(Query(sentences, pictures)).columns
        np.testing.assert_allclose([crop.hit.score for crop in column], np.sort(scores)[::-1][:PER_PAGE], atol=1e-5)
        own = scores[[names.index(crop.hit.path) for crop in column]]
        np.testing.assert_allclose([crop.hit.score for crop in column], own, atol=1e-5)


def test_an_uploaded_picture_finds_itself(search):
    name = search.gallery.table.column("path")[5].as_py()
    picture = search.uploaded(Upload("../../x/mine.png", (search.gallery.root / name).read_bytes()))
    assert picture.name == "mine.png"
    crop = search.find(Query(pictures=(picture,))).columns[0][0]
    assert (crop.hit.path, pytest.approx(1, abs=1e-5)) == (name, crop.hit.score)


def test_conditions_hold_and_are_counted(search):
    where = condition({"camera": ["c1"], "number": []}, "number < 20")
    found = search.find(Query(("a man",), where=where))
    wanted = [i for i in range(20) if i % 3 == 1]
    assert found.matching == len(wanted)
    assert sorted(crop.hit.metadata["number"] for crop in found.columns[0]) == wanted
    nothing = search.find(Query(("a man",), where="number > 99"))
    assert (nothing.matching, nothing.pages, nothing.columns) == (0, 1, ((),))


@given(st.lists(st.text(st.characters(codec="utf-8", categories=["L", "P", "S"]), max_size=8), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_chosen_values_stay_values(values):
    """No value of a column gets out of its quotes."""
    chosen = parse(condition({"camera": values}), {"camera": "text"})
    assert (chosen.column, chosen.operator, chosen.value) == ("camera", "in", tuple(values))


def test_columns_with_few_values_are_offered(search, monkeypatch):
    assert search.facets() == [Facet("number", tuple(range(COUNT))), Facet("camera", ("c0", "c1", "c2"))]
    monkeypatch.setattr(gallery_search, "_MAX_VALUES", 10)
    assert search.facets() == [Facet("camera", ("c0", "c1", "c2"))]


def test_errors_say_what_to_do(search):
    picture = search.liked(search.gallery.table.column("path")[0].as_py())
    for query, message in (
        (Query(), "Say whom to look for"),
        (Query(("a" * 3000,)), "3,000 characters, more than 2,000"),
        (Query(("a", "b", "c")), "at most 2 sentences"),
        (Query(("a",), (picture,) * (MAX_PICTURES + 1)), "6 pictures"),
        (Query(("a man",), where="camera ="), "cannot be read"),
        (Query(("a man",), where="colour == 1"), "there is no column 'colour'"),
    ):
        with pytest.raises(ValueError, match=message):
            search.find(query)
    for path in ("nobody.png", "../index/gallery.json", "/etc/passwd", ""):
        with pytest.raises(ValueError, match="The gallery has no image"):
            search.liked(path)
        with pytest.raises(ValueError, match="The gallery has no image"):
            search.explain("a man", path)


def test_large_and_spoilt_pictures_are_refused(search):
    bomb = png_bomb()
    for data, error, message in (
        (bomb, ValueError, "more than 40,000,000"),
        (bytes(MAX_UPLOAD + 1), ValueError, "more than 4,000,000 bytes"),
        (b"<svg onload='x'/>", OSError, "is none of JPEG"),
        (bomb[:20], OSError, "is none of JPEG|cannot be decoded"),
        (b"", OSError, "is none of JPEG"),
    ):
        with pytest.raises(error, match=message):
            search.uploaded(Upload("x.png", data))


def test_deleted_files_and_a_spoilt_index_do_not_end_the_search(tmp_path):
    names = write_crops(tmp_path / "crops", 6)
    search = GallerySearch(Gallery.build(tmp_path / "crops", inferencer(), tmp_path / "index"))
    (tmp_path / "crops" / names[0]).unlink()
    (tmp_path / "crops" / names[1]).write_bytes(b"no image")
    os.remove(tmp_path / "crops" / names[2])
    os.symlink("/etc/hostname", tmp_path / "crops" / names[2])
    found = search.find(Query(("a woman",)))
    shown = {crop.hit.path: bool(crop.thumbnail) for crop in found.columns[0]}
    assert shown == {name: i > 2 for i, name in enumerate(names)}
    assert search.liked(names[0]).feature.shape == (64,)  # the index has it
    for name in names[:3]:
        with pytest.raises(ValueError, match="gone or spoilt") as error:
            search.explain("a woman", name)
        assert str(tmp_path) not in str(error.value)
    assert not found.note
    (tmp_path / "index/gallery.json").write_text("{")
    again = search.find(Query(("a woman",)))
    assert again.columns == found.columns
    assert "cannot be read any more" in again.note


def test_what_is_added_to_the_index_is_found(tmp_path):
    names = write_crops(tmp_path / "crops", 3)
    search = GallerySearch(Gallery.build(tmp_path / "crops", inferencer(), tmp_path / "index"))
    assert search.find(Query(("a woman",))).matching == 3
    write_crop(tmp_path / "crops/new.png", 77)
    Gallery.build(tmp_path / "crops", inferencer(), tmp_path / "index").close()
    found = search.find(Query(("a woman",)))
    assert sorted(crop.hit.path for crop in found.columns[0]) == sorted([*names, "new.png"])


def test_a_changed_file_gets_a_new_small_copy(tmp_path):
    (name,) = write_crops(tmp_path / "crops", 1)
    search = GallerySearch(Gallery.build(tmp_path / "crops", inferencer(), tmp_path / "index"))
    before = search.liked(name).thumbnail
    write_crop(tmp_path / "crops" / name, 99)
    os.utime(tmp_path / "crops" / name, ns=(1, 1))
    assert search.liked(name).thumbnail != before


def test_examples_in_docstrings_hold():
    assert doctest.testmod(gallery_search).failed == 0
