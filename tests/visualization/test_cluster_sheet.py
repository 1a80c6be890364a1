"""Cluster sheets: what is drawn where."""

import numpy as np
import pytest
from PIL import Image

from mmreid_text.visualization import ClusterMember, ClusterRow, draw_cluster_sheet, save_cluster_sheet
from mmreid_text.visualization.cluster_sheet import CELL_WIDTH, CROP, member_origin
from mmreid_text.visualization.rank_strips import FRAME, INK, RIGHT, TARGET, WRONG


def test_members_are_framed_by_what_is_known_of_them():
    red = np.zeros((64, 32, 3), np.uint8) + np.array([250, 20, 20], np.uint8)
    marks = [True, False, None]
    members = [ClusterMember(red, "a long caption " * 20, right, rescued=right is False) for right in marks]
    sheet = draw_cluster_sheet([ClusterRow(["image cluster 3"], members), ClusterRow(["b"], members[:1])], "clusters")
    for column, colour in enumerate((RIGHT, WRONG, TARGET)):
        x, y = member_origin(0, column)
        assert tuple(sheet[y + 1, x + 1]) == colour
        assert tuple(sheet[y + FRAME + CROP[1] // 2, x + FRAME + CROP[0] // 2]) == (250, 20, 20)
        below = sheet[y + CROP[1] + 2 * FRAME + 3 :, x : x + CELL_WIDTH][:14]
        assert (below == INK).all(axis=2).any() == (marks[column] is False)  # "rescued" is written there
    x, y = member_origin(1, 1)
    assert (sheet[y : y + CROP[1], x:] == 255).all()


def test_a_sheet_is_saved_whole(tmp_path):
    path = tmp_path / "new" / "sheet.png"
    save_cluster_sheet([ClusterRow(["a"], [ClusterMember(np.zeros((8, 4, 3), np.uint8), "")])], "one", path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    assert [p.name for p in path.parent.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize("rows", [[], [ClusterRow(["a"], [])]])
def test_nothing_to_draw_is_refused(rows):
    with pytest.raises(ValueError, match="at least one cluster"):
        draw_cluster_sheet(rows, "none")
