"""Images of strangers: kinds, limits, and what is refused by name."""

import io
import os
import zlib

import numpy as np
import pytest
from PIL import Image

from mmreid_text.datasets.transforms.image import read_image
from mmreid_text.gallery import image_files
from mmreid_text.gallery.image_files import inside, list_files
from mmreid_text.gallery.images import MAX_BYTES, read_picture


def picture(seed=0, size=(30, 20), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("BMP", "RGB")]
)
def test_every_kind_gives_the_pixels_of_evaluation(tmp_path, kind, mode):
    data = encoded(picture(mode=mode), kind)
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(data)
    wanted = read_image(str(path))
    for image in (path, str(path), data, Image.open(path), wanted):
        np.testing.assert_array_equal(read_picture(image), wanted)


def png(width, height):
    """A small file that says it is a large image: one black row for as many as it says."""

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    rows = zlib.compress(b"\0" * min((3 * width + 1) * height, 1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(7000, 7000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_image_bombs_are_refused_before_they_are_decoded(size):
    with pytest.raises(ValueError, match="pixels"):
        read_picture(png(*size))


def test_a_large_jpeg_is_refused_too():
    data = bytearray(encoded(picture(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\xf0\xff\xf0"
    with pytest.raises(ValueError, match="more than 40,000,000 pixels"):
        read_picture(bytes(data))


def test_what_is_no_image_is_named(tmp_path):
    for name, data in (
        ("a.jpg", b""),
        ("b.jpg", b"\xff\xd8\xff"),
        ("c.png", b"text"),
        ("d.gif", encoded(picture(), "GIF")),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(OSError, match=name):
            read_picture(tmp_path / name)
    whole = encoded(picture(size=(200, 100)), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match="cut"):
        read_picture(tmp_path / "cut.jpg")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_picture(tmp_path / "nowhere.jpg")
    with pytest.raises(ValueError, match="uint8"):
        read_picture(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="larger than"):
        read_picture(bytes(MAX_BYTES + 1))


def test_pipes_and_folders_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg"):
        with pytest.raises(FileNotFoundError, match=name):
            read_picture(tmp_path / name)


def test_links_lead_nowhere_but_below_the_folder(tmp_path):
    root, other = tmp_path / "root", tmp_path / "root-2"
    for folder in (root / "a", other):
        folder.mkdir(parents=True)
        picture().save(folder / "x.png")
    (root / "in.png").symlink_to(root / "a/x.png")
    (root / "out.png").symlink_to(other / "x.png")
    (root / "gone.png").symlink_to(root / "nothing.png")
    (root / "around").symlink_to(root / "a")
    (root / "away").symlink_to(other)
    (root / "notes.txt").write_text("no image")
    (root / "a\nb.png").write_bytes((root / "a/x.png").read_bytes())
    listing = list_files(root)
    assert listing.files.column("path").to_pylist() == ["a/x.png", "in.png"]
    assert listing.refused.keys() == {"out.png", "away", "a\\nb.png"}
    assert inside(root, "in.png") == (root / "a/x.png").resolve()
    strange = ("out.png", "away/x.png", "../root-2/x.png", "/etc/passwd", "a/../../root-2/x.png", "x\0.png")
    for name in (*strange, "./in.png", "a//x.png", "a/../in.png", ""):
        with pytest.raises(PermissionError, match="gallery"):
            inside(root, name)


def test_links_in_circles_and_files_that_vanish_do_not_end_the_listing(tmp_path, monkeypatch):
    for name in ("a.png", "b\u202f\u3000c.png", "vanishes.png"):
        picture().save(tmp_path / name)
    for name in ("circle.png", "circle"):
        (tmp_path / name).symlink_to(name)
    printable = image_files._printable
    monkeypatch.setattr(
        image_files, "_printable", lambda name: (tmp_path / "vanishes.png").unlink(True) or printable(name)
    )
    listing = list_files(tmp_path)
    assert listing.files.column("path").to_pylist()[:2] == ["a.png", "b\u202f\u3000c.png"]
    assert listing.refused.keys() == {"circle.png", "circle"}


def test_an_empty_or_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        list_files(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list_files(tmp_path / "nowhere")
