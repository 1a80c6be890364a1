"""Rank strips: frames, crops and captions at their places."""

import numpy as np
import pytest
from PIL import Image

from mmreid_text.visualization.rank_strips import (
    CAPTION_WIDTH,
    CROP_HEIGHT,
    FRAME,
    HEADER,
    MARGIN,
    RIGHT,
    TARGET,
    WRONG,
    RankStrip,
    crop_origin,
    draw_rank_strips,
    save_rank_strips,
)


def image(colour, height=384, width=128):
    return np.full((height, width, 3), colour, dtype=np.uint8)


def strip(right, **kwargs):
    fields = {
        "caption": "A man in a red coat.",
        "images": [image((10 * i, 200, 50)) for i in range(len(right))],
        "right": right,
        "scores": np.linspace(0.9, 0.1, len(right)).tolist(),
        "first_right": 2,
        "gallery_size": 30,
        "target": image((90, 20, 200)),
    }
    return RankStrip(**fields | kwargs)


def test_frames_and_crops_stand_where_they_should():
    marks = [[False, True, False], [True, True, False]]
    picture = draw_rank_strips([strip(right) for right in marks], "title")
    crop_width = CROP_HEIGHT // 3
    for row, right in enumerate(marks):
        for rank in range(4):
            x, y = crop_origin(row, rank, crop_width)
            frame = TARGET if rank == 0 else RIGHT if right[rank - 1] else WRONG
            bottom, far = y + CROP_HEIGHT + 2 * FRAME - 1, x + crop_width + 2 * FRAME - 1
            for corner in ((y, x), (y, far), (bottom, x), (bottom, far)):
                assert tuple(picture[corner]) == frame
            inside = (90, 20, 200) if rank == 0 else (10 * (rank - 1), 200, 50)
            assert (picture[y + FRAME + 2 : bottom - FRAME - 2, x + FRAME + 2 : far - FRAME - 2] == inside).all()
            assert (picture[bottom + 1 : bottom + 16, x:far] == frame).all(-1).any()  # the label, in the frame's colour
    assert (picture[HEADER + 40 : HEADER + 60, MARGIN : MARGIN + CAPTION_WIDTH] < 128).any()  # the caption's ink


def test_paths_and_shapes(tmp_path):
    Image.fromarray(image((250, 0, 0), 64, 64)).save(tmp_path / "a.png")
    one = strip([True], images=[tmp_path / "a.png"], target=image((0, 0, 250), 64, 32))
    save_rank_strips([one], "title", tmp_path / "new" / "strips.png")
    picture = np.asarray(Image.open(tmp_path / "new" / "strips.png"))
    x, y = crop_origin(0, 1, 96)  # 2:1, as the described image
    centre = picture[y + FRAME + CROP_HEIGHT // 2, x + FRAME + 48]
    assert tuple(centre) == (250, 0, 0)
    assert tuple(picture[y + FRAME + 2, x + FRAME + 48]) == (235, 236, 238)  # a square image keeps its shape
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["strips.png"]


@pytest.mark.parametrize("caption", ["", "word " * 400, "x" * 500])
def test_captions_stay_in_their_column(caption):
    picture = draw_rank_strips([strip([True], caption=caption), strip([True])], "title")
    left = crop_origin(0, 0, 64)[0]
    gap = picture[HEADER + 1 : HEADER + 200, left - 12 : left]
    assert (gap == 255).all()
    height = crop_origin(1, 0, 64)[1] - 10
    assert (picture[height - 4 : height, :left] == 255).all()


def test_bad_strips():
    with pytest.raises(ValueError, match="2 images, 1 marks and 2 scores"):
        strip([True], images=[image(0)] * 2, scores=[0.5, 0.4])
    with pytest.raises(ValueError, match="no query"):
        draw_rank_strips([], "title")
    with pytest.raises(ValueError, match=r"float64 \(4, 4, 3\)"):
        draw_rank_strips([strip([True], images=[np.zeros((4, 4, 3))])], "title")
