"""Image sources, and that none reads outside its root."""

import io

import numpy as np
import pytest
from PIL import Image

from mmreid_text.captioning.image_sources import ImageFolder, ImageList, PackedImages, ProceduralImages, fault_of
from mmreid_text.datasets.image_packing import PackSettings, names_hash, pack_images
from mmreid_text.datasets.image_packing import list_images as all_images
from mmreid_text.procedural.domains import World


@pytest.fixture
def root(tmp_path):
    """Two images, one of them in a folder, beside a secret file outside."""
    (tmp_path / "images/inner").mkdir(parents=True)
    for name in ("a.jpg", "inner/b.PNG", "inner/notes.txt"):
        (tmp_path / "images" / name).write_bytes(name.encode())
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return tmp_path / "images"


def test_a_folder_lists_images_of_all_levels(root):
    source = ImageFolder(root)
    assert sorted(source.names()) == ["a.jpg", "inner/b.PNG"]
    assert source.read("inner/b.PNG") == b"inner/b.PNG"


def test_links_within_the_folder_serve(root):
    (root / "c.jpg").symlink_to("inner/b.PNG")
    (root / "again").symlink_to("inner")
    (root / "loop").symlink_to(".")
    source = ImageFolder(root)
    assert sorted(source.names()) == ["a.jpg", "c.jpg", "inner/b.PNG"]
    assert source.read("c.jpg") == b"inner/b.PNG"


def test_a_folder_may_be_a_link_itself(root, tmp_path):
    (tmp_path / "link").symlink_to("images")
    source = ImageFolder(tmp_path / "link")
    assert sorted(source.names()) == ["a.jpg", "inner/b.PNG"]
    assert source.read("a.jpg") == b"a.jpg"


@pytest.mark.parametrize("target", ["../secret.jpg", "..", "/etc", "/etc/hostname"])
def test_links_out_of_the_folder_are_refused(root, target):
    (root / "z.jpg").symlink_to(target)
    with pytest.raises(ValueError, match=r"z\.jpg is a link out of"):
        list(ImageFolder(root).names())
    with pytest.raises(PermissionError, match="through a link"):
        ImageFolder(root).read("z.jpg")


@pytest.mark.parametrize("name", ["../secret.jpg", "inner/../../secret.jpg", "/etc/hostname", "a\0.jpg", ".."])
def test_names_out_of_the_folder_are_refused(root, tmp_path, name):
    listed = tmp_path / "list.txt"
    listed.write_text(f"a.jpg\n\n{name}\n")
    with pytest.raises(ValueError, match=r"list\.txt:3 "):
        list(ImageList(listed, root).names())
    with pytest.raises(PermissionError, match="is not read"):
        ImageFolder(root).read(name)


def test_a_link_set_after_listing_is_not_followed(root, tmp_path):
    source = ImageFolder(root)
    assert "inner/b.PNG" in list(source.names())
    (root / "inner").rename(tmp_path / "outside")
    (root / "inner").symlink_to(tmp_path / "outside")
    with pytest.raises(PermissionError, match="through a link"):
        source.read("inner/b.PNG")


def test_a_sibling_that_begins_alike_is_outside(root, tmp_path):
    (tmp_path / "images-private").mkdir()
    (tmp_path / "images-private/x.jpg").write_bytes(b"x")
    (root / "x.jpg").symlink_to(tmp_path / "images-private/x.jpg")
    with pytest.raises(PermissionError):
        ImageFolder(root).read("x.jpg")


def test_a_list_names_what_it_says(root, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("inner/b.PNG\r\na.jpg")
    assert list(ImageList(listed, root).names()) == ["inner/b.PNG", "a.jpg"]
    listed.write_bytes(b"\xff.jpg\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        list(ImageList(listed, root).names())


def test_missing_inputs_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="no-folder"):
        ImageFolder(tmp_path / "no-folder")
    with pytest.raises(FileNotFoundError, match=r"no-list\.txt"):
        ImageList(tmp_path / "no-list.txt", root)
    with pytest.raises(FileNotFoundError, match="image_index"):
        PackedImages(root)


def test_packed_images_leave_out_the_unreadable(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        Image.fromarray(np.full((20, 10, 3), i, np.uint8)).save(images / f"{i}.png")
    (images / "broken.jpg").write_bytes(b"none")
    names = all_images(images)
    pack_images(names, PackSettings("p", str(images), names_hash(names)), tmp_path / "store", 0, True)
    source = PackedImages(tmp_path / "store")
    assert sorted(source.names()) == ["0.png", "1.png", "2.png"]
    assert source.read("1.png") == (images / "1.png").read_bytes()
    with pytest.raises(FileNotFoundError):
        source.read("../images/1.png")


def test_procedural_images_are_the_worlds(tmp_path):
    source = ProceduralImages(num_ids=5, size=(64, 32), seed=3)
    assert list(source.names()) == [f"{i:07d}.jpg" for i in range(5)]
    pixels = np.array(Image.open(io.BytesIO(source.read("0000002.jpg"))))
    drawn = World("source", 5, seed=3, size=(64, 32)).render(2)
    assert np.abs(pixels.astype(int) - drawn).mean() < 4


def test_faults_are_told():
    assert [fault_of(name) for name in ("a.jpg", "a/b..c.jpg", "...jpg")] == [None] * 3
    assert all(fault_of(name) for name in ("..", "a/..", "../a", "/a", "a\0"))
