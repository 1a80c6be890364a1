"""Sentences as chips: in a picture they stay in their column and keep words whole; in HTML text stays text."""

from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from mmreid_text.visualization.chips import CELL_HEIGHT, Cell, Chip, chips_html, draw_chips, ink_on

RED, BLUE = (250, 0, 0), (0, 0, 250)


def canvas(chips, width=200, heads=()):
    image = Image.new("RGB", (320, 400), "white")
    bottom = draw_chips(ImageDraw.Draw(image), chips, (20, 10), width, heads)
    assert bottom == draw_chips(None, chips, (20, 10), width, heads)  # what is measured is what is drawn
    return np.asarray(image).astype(int), bottom


def rows_of(picture, colour):
    return np.flatnonzero((picture == colour).all(-1).any(1))


def columns_of(picture, colour):
    return np.flatnonzero((picture == colour).all(-1).any(0))


def test_cells_stand_under_their_tokens_from_top_to_bottom():
    picture, _ = canvas([Chip("red"), Chip("coat", [Cell("1", RED), Cell("2", BLUE)])])
    red, blue = rows_of(picture, RED), rows_of(picture, BLUE)
    assert blue[0] - red[0] == CELL_HEIGHT
    assert len(red) < CELL_HEIGHT  # a gap between cells
    ink = np.flatnonzero((picture[:30].sum(-1) < 300).any(0))
    coat = ink[ink > columns_of(picture, RED)[0]]
    assert columns_of(picture, RED)[0] <= coat[0]
    assert coat[-1] <= columns_of(picture, RED)[-1] + 2
    assert ink[0] < columns_of(picture, RED)[0]  # "red" has no cell of its own


def test_lines_break_between_words_and_not_within():
    word = [Chip("woo", [Cell("", RED)], joined=True), Chip("len", [Cell("", BLUE)])]
    for filler in range(1, 14):
        picture, _ = canvas([Chip("i" * filler), Chip("coat"), *word], width=110)
        assert (rows_of(picture, RED) == rows_of(picture, BLUE)).all()
        assert columns_of(picture, BLUE)[0] - columns_of(picture, RED)[-1] <= 3


def test_heads_stand_left_of_every_line():
    chips = [Chip("word", [Cell("", RED)])] * 12
    picture, bottom = canvas(chips, heads=["epoch 1"])
    lines = (bottom - 10) // 47
    assert lines >= 3
    left = columns_of(picture, RED)[0]
    for line in range(lines):
        assert (picture[10 + 47 * line : 10 + 47 * (line + 1), 20:left] < 200).any()
    assert (picture[:, :20] == 255).all()


@pytest.mark.parametrize("text", ["x" * 300, "", "…", "上衣", "a\u0301"])
def test_any_text_stays_in_its_column(text):
    picture, bottom = canvas([Chip("a"), Chip(text, [Cell("0", RED)]), Chip("b")], width=150)
    assert (picture[:, 171:] == 255).all()
    assert (picture[bottom:] == 255).all()


def test_marked_words_are_red_and_underlined():
    plain, _ = canvas([Chip("coat")])
    marked, _ = canvas([Chip("coat", marked=True)])
    line = (marked == (205, 45, 40)).all(-1).sum(axis=1)
    assert line.max() > 20  # an unbroken line
    assert not (plain == (205, 45, 40)).all(-1).any()


def test_ink_is_legible():
    assert ink_on((255, 255, 200)) == (0, 0, 0)
    assert ink_on((120, 0, 0)) == (255, 255, 255)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="<>&\"'/ab =script\n", max_size=12), min_size=1, max_size=5))
def test_html_holds_the_text_and_no_tag_of_it(words):
    reader = Reader()
    reader.feed(chips_html([Chip(word, [Cell(word, RED, word)]) for word in words], heads=[words[0]]))
    reader.close()
    assert {tag for tag, _ in reader.tags} <= {"div", "span", "b", "i"}
    assert "".join(reader.text).replace("\xa0", "") == words[0] + "".join(word + word for word in words)
    titles = [attributes["title"] for tag, attributes in reader.tags if tag == "i" and "title" in attributes]
    assert titles == [word for word in words if word]
