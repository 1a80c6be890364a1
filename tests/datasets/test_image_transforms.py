import io

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms as tv
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import pseudo_collate
from PIL import Image
from small_pipelines import TEST, TRAIN
from torch.utils.data import DataLoader, default_collate

from mmreid_text.datasets import CUHKPEDES, ICFGPEDES, ConcatDataset
from mmreid_text.datasets.transforms import LoadImage, PackSample, PadCrop, RandomErasing, RandomFlip, Resize
from mmreid_text.datasets.transforms.image import decode_image
from mmreid_text.registry import TRANSFORMS

pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")
EPOCHS = 2


def picture(height=90, width=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def keyed(image, caption_id, epoch=0, seed=0):
    return {"img": image.copy(), "draw_key": (seed, epoch, caption_id)}


def test_load_image_equals_pillow(tmp_path):
    for name, mode in {"a.jpg": "RGB", "b.png": "RGBA", "c.jpg": "L", "d.png": "P"}.items():
        Image.fromarray(picture()).convert(mode).save(tmp_path / name)
        loaded = LoadImage()({"img_path": str(tmp_path / name)})["img"]
        assert loaded.dtype == np.uint8
        np.testing.assert_array_equal(loaded, np.asarray(Image.open(tmp_path / name).convert("RGB")))
    drawn = picture()
    assert LoadImage()({"img": drawn})["img"] is drawn
    stored = LoadImage()({"img_path": "store/a.jpg", "img_bytes": (tmp_path / "a.jpg").read_bytes()})
    assert stored.keys() == {"img_path", "img"}
    np.testing.assert_array_equal(stored["img"], np.asarray(Image.open(tmp_path / "a.jpg")))


def test_bad_images_are_named(tmp_path):
    data = io.BytesIO()
    Image.fromarray(picture(200, 100)).save(data, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    for name in ("cut.jpg", "text.jpg", "empty.jpg"):
        with pytest.raises(OSError, match=rf"{name} cannot be decoded.*--check-images"):
            LoadImage()({"img_path": str(tmp_path / name)})
    with pytest.raises(FileNotFoundError, match=r"gone.jpg does not exist.*docs/data.md"):
        LoadImage()({"img_path": str(tmp_path / "gone.jpg")})
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(OSError, match=r"folder.jpg cannot be read"):
        LoadImage()({"img_path": str(tmp_path / "folder.jpg")})


def pillow_pixels(data):
    """What Pillow makes of a file, None where it refuses it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None


def our_pixels(data):
    try:
        return decode_image(data, "file")
    except OSError:
        return None


def encoded(kind="JPEG", seed=0, height=61, width=47, mode="RGB", **options):
    data = io.BytesIO()
    Image.fromarray(natural(height, width, seed)).convert(mode).save(data, kind, **options)
    return data.getvalue()


def natural(height, width, seed):
    """Smooth shapes with some grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 4, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


JPEGS = {
    "plain": encoded(quality=95),
    "full colour": encoded(subsampling=0),
    "grey": encoded(mode="L"),
    "progressive": encoded(progressive=True),
    "rgb, no ycc": encoded(keep_rgb=True),
    "cmyk": encoded(mode="CMYK"),
    "rotated": encoded(exif=with_orientation(6)),
    "thumbnail": encoded(exif=with_orientation(3)[:-2] + b"\xff\xd8\xff\xd9"),
    "restarts": encoded(restart_marker_rows=1),
    "garbage behind": encoded() + b"garbage",
    "two images": encoded() + encoded(seed=1),
}
OTHERS = {
    "png": encoded("PNG"),
    "alpha": encoded("PNG", mode="RGBA"),
    "palette": encoded("PNG", mode="P"),
    "grey png": encoded("PNG", mode="L"),
    "bmp": encoded("BMP"),
}


@pytest.mark.parametrize("name", [*JPEGS, *OTHERS])
def test_decoding_equals_pillow(name):
    data = {**JPEGS, **OTHERS}[name]
    np.testing.assert_array_equal(our_pixels(data), pillow_pixels(data))


def test_common_jpegs_are_decoded_by_opencv(monkeypatch):
    monkeypatch.setattr(Image, "open", None)
    for name in ("plain", "full colour", "grey", "rgb, no ycc", "rotated", "restarts"):
        assert our_pixels(JPEGS[name]).shape == (61, 47, 3)


def test_a_jpeg_without_its_first_header_is_judged_by_pillow():
    content = bytearray(JPEGS["plain"])
    content[3] = 1  # a marker without a length, which OpenCV reads on behind
    assert our_pixels(bytes(content)) is None


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*JPEGS]), st.data())
def test_damaged_jpegs_are_judged_as_pillow_judges_them(name, data):
    content = bytearray(JPEGS[name])
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(2, len(content) - 1)) :]
        content += data.draw(st.sampled_from([b"", b"\xff\xd9", bytes(100)]))
    expected, got = pillow_pixels(bytes(content)), our_pixels(bytes(content))
    assert (expected is None) == (got is None)
    if expected is not None:
        np.testing.assert_array_equal(got, expected)


def pillow_resized(image, size):
    """Width first, then height, as Pillow did until version 13, which takes the height of some tall images first."""
    for height, width in ((image.shape[0], size[1]), size):
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    return image


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(20, 500), st.integers(20, 300)),
    st.tuples(st.integers(20, 400), st.integers(20, 200)),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_resize_equals_pillow(shape, size, noise, seed):
    image = picture(*shape, seed) if noise else natural(*shape, seed)
    resized = Resize(size)({"img": image})["img"]
    assert resized.dtype == np.uint8
    gap = np.abs(resized.astype(int) - pillow_resized(image, size))
    assert gap.mean() <= 0.1
    assert gap.max() <= 1
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(Resize(size, backend="cv2")({"img": image})["img"], expected)


@pytest.mark.parametrize("shape", [(384, 128), (90, 40), (160, 64), (256, 128), (384, 64), (480, 200), (700, 310)])
@pytest.mark.parametrize("image_of", [picture, natural])
def test_resize_of_person_crops_equals_pillow_in_one_step(shape, image_of):
    image = image_of(*shape, seed=1)
    expected = np.asarray(tv.Resize((384, 128), tv.InterpolationMode.BILINEAR)(Image.fromarray(image)))
    gap = np.abs(Resize((384, 128))({"img": image})["img"].astype(int) - expected)
    assert gap.mean() <= 0.1
    assert gap.max() <= 1


def test_resize_takes_any_memory_layout():
    image = picture()
    expected = Resize((30, 20))({"img": image[::2, ::-1].copy()})["img"]
    np.testing.assert_array_equal(Resize((30, 20))({"img": image[::2, ::-1]})["img"], expected)
    image.flags.writeable = False
    assert Resize((90, 40))({"img": image})["img"] is image


def test_flip_mirrors_half_of_the_images():
    image = picture()
    flipped = 0
    for i in range(2000):
        result = RandomFlip(0.5)(keyed(image, i))["img"]
        if not np.array_equal(result, image):
            np.testing.assert_array_equal(result, image[:, ::-1])
            flipped += 1
    assert 900 < flipped < 1100
    assert np.array_equal(RandomFlip(0.0)(keyed(image, 1))["img"], image)
    assert np.array_equal(RandomFlip(1.0)(keyed(image, 1))["img"], image[:, ::-1])


def test_pad_crop_equals_torchvision_at_every_offset():
    image, padding = picture(24, 12), 3
    padded = np.asarray(tv.Pad(padding)(Image.fromarray(image)))
    windows = {padded[t : t + 24, l : l + 12].tobytes(): (t, l) for t in range(7) for l in range(7)}  # noqa: E741
    counts = np.zeros((7, 7), dtype=int)
    for i in range(4900):
        counts[windows[PadCrop(padding)(keyed(image, i))["img"].tobytes()]] += 1
    assert ((counts - 100) ** 2 / 100).sum() < 95  # chi-square with 48 degrees of freedom, p = 1e-4
    np.testing.assert_array_equal(PadCrop(0)(keyed(image, 1))["img"], image)


@pytest.mark.parametrize(
    ("shape", "area", "aspect"), [((384, 128), (0.02, 0.4), (0.3, 3.3)), ((40, 40), (0.5, 0.9), (0.2, 5.0))]
)
def test_erasing_follows_torchvision_in_distribution(shape, area, aspect):
    torch.manual_seed(0)
    blank = torch.zeros(3, *shape)
    theirs = []
    for _ in range(4000):
        top, left, h, w, _ = tv.RandomErasing.get_params(blank, area, aspect, [0.0])
        theirs.append((top, left, h, w) if (h, w) != shape else (0, 0, 0, 0))  # their sign for "no box found"
    ours = np.array([box_of(i, shape, area, aspect, 1.0) for i in range(4000)])
    theirs = np.array(theirs)
    assert abs((ours[:, 2] == 0).mean() - (theirs[:, 2] == 0).mean()) < 0.03
    for mine, other in zip(box_numbers(ours), box_numbers(theirs)):
        assert largest_gap(mine, other) < 2.225 * (2 / 4000) ** 0.5  # Kolmogorov-Smirnov, p = 1e-4
    assert (ours >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= shape[0]).all()
    assert (ours[:, 1] + ours[:, 3] <= shape[1]).all()
    some = np.array([box_of(i, shape, area, aspect, 0.25) for i in range(2000)])
    drawn = (ours[:2000, 2] > 0).mean()
    assert abs((some[:, 2] > 0).mean() - 0.25 * drawn) < 0.04


def box_numbers(boxes):
    return [*boxes.T, boxes[:, 2] * boxes[:, 3], boxes[:, 2] / np.maximum(boxes[:, 3], 1)]


def largest_gap(a, b):
    """Two-sample Kolmogorov-Smirnov statistic."""
    at = np.concatenate([a, b])
    below = [np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (a, b)]
    return np.abs(below[0] - below[1]).max()


def box_of(i, shape, area, aspect, prob):
    box = RandomErasing(prob, area, aspect)(keyed(np.zeros((*shape, 3), np.uint8), i))["erase_box"]
    assert box.dtype == np.int64
    return box


@pytest.mark.parametrize("transform", [RandomFlip(), PadCrop(), RandomErasing()])
def test_random_transforms_depend_on_the_draw_key_alone(transform):
    def outcome(**key):
        result = transform(keyed(picture(), **key))
        return result["img"].tobytes() + result.get("erase_box", np.zeros(1)).tobytes()

    assert outcome(caption_id=5) == outcome(caption_id=5)
    for key in ("epoch", "seed", "caption_id"):
        assert len({outcome(**{"caption_id": 5, key: value}) for value in range(20)}) > 1
    with pytest.raises(KeyError, match=rf"{type(transform).__name__} is random.*test pipeline"):
        transform({"img": picture()})


@pytest.mark.parametrize(
    "cfg",
    [
        {"type": "Resize", "size": (384,)},
        {"type": "Resize", "backend": "pil"},
        {"type": "RandomFlip", "prob": 2},
        {"type": "PadCrop", "padding": -1},
        {"type": "RandomErasing", "area": (0.4, 0.2)},
        {"type": "RandomErasing", "aspect": (0, 2)},
    ],
)
def test_bad_arguments_are_named(cfg):
    with pytest.raises(ValueError, match=rf"{cfg['type']}\({list(cfg)[1]}="):
        TRANSFORMS.build(cfg)


def test_pack_sample():
    sample = {
        "img": picture(),
        "text": np.zeros(77, np.int64),
        "pid": 3,
        "image_id": 4,
        "caption_id": 5,
        "erase_box": np.array([1, 2, 3, 4]),
        "caption": "left behind",
        "draw_key": (0, 0, 5),
    }
    packed = PackSample()(sample)
    assert packed.keys() == {"image", "text", "pid", "image_id", "caption_id", "erase_box"}
    assert packed["image"].dtype == torch.uint8
    assert torch.equal(packed["image"], torch.from_numpy(picture()).permute(2, 0, 1))
    assert packed["image"].is_contiguous()
    assert [packed[key].item() for key in ("pid", "image_id", "caption_id")] == [3, 4, 5]
    assert torch.equal(PackSample()({**sample, "img": picture()[:, ::-1]})["image"], packed["image"].flip(2))
    with pytest.raises(KeyError, match=r"needs \['text'\]"):
        PackSample()({key: value for key, value in sample.items() if key != "text"})
    for image in (picture() / 255, picture()[..., 0], picture()[..., :2]):
        with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), but it is"):
            PackSample()({**sample, "img": image})


def test_same_pixels_whatever_the_workers(cuhk_root):
    dataset = CUHKPEDES(cuhk_root / "CUHK-PEDES", pipeline=TRAIN)
    seen = {}
    for workers in (0, 1, 2):
        loader = DataLoader(
            dataset, batch_size=5, num_workers=workers, persistent_workers=workers > 0, collate_fn=default_collate
        )
        for epoch in range(EPOCHS):
            dataset.set_epoch(epoch)
            batches = list(loader)
            seen[workers, epoch] = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    for epoch in range(EPOCHS):
        for key, value in seen[0, epoch].items():
            assert torch.equal(value, seen[1, epoch][key]), key
            assert torch.equal(value, seen[2, epoch][key]), key
    assert not torch.equal(seen[0, 0]["image"], seen[0, 1]["image"])
    assert not torch.equal(seen[0, 0]["erase_box"], seen[0, 1]["erase_box"])
    first = seen[0, 0]
    assert first.keys() == {"image", "text", "pid", "image_id", "caption_id", "erase_box"}
    assert first["image"].dtype == torch.uint8
    assert not any(value.is_floating_point() for value in first.values())  # processes hand over whole numbers only
    assert first["image"].shape == (32, 3, 48, 16)
    assert first["text"].shape == (32, 77)
    assert first["caption_id"].tolist() == list(range(32))


def test_test_loader_with_ragged_captions(cuhk_root, icfg_root):
    dataset = ConcatDataset(
        [
            CUHKPEDES(cuhk_root / "CUHK-PEDES", "test", TEST),
            ICFGPEDES(icfg_root / "ICFG-PEDES", "test", TEST),
        ],
        ignore_keys=["name"],
    )
    loader = DataLoader(dataset, batch_size=8, num_workers=1, collate_fn=pseudo_collate)
    batch = next(iter(loader))
    assert batch["dataset"] == ["cuhk_pedes"] * 4 + ["icfg_pedes"] * 4
    assert [len(text) for text in batch["text"]] == [2] * 4 + [1] * 4
    assert {tuple(image.shape) for image in batch["image"]} == {(3, 48, 16)}
    assert torch.stack(batch["image_id"]).tolist() == list(range(8))
    random = CUHKPEDES(cuhk_root / "CUHK-PEDES", "test", TRAIN)
    with pytest.raises(KeyError, match="test pipeline"):
        random[0]
