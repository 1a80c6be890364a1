"""HTML of the page: what others wrote stays text, and what a reader needs is there."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.apis import Hit
from mmreid_text.apis.explain import Explanation
from mmreid_text.page.cards import begin_html, button, escape, pictures_html, results_html, why_html
from mmreid_text.page.query import MAX_PICTURES, Found, FoundCrop, Picture, Query

HOSTILE = "<script>alert(1)</script>\" onload='x' {{value}} ${1+1} `b` \\ &lt;"
TEXT = st.text(max_size=30) | st.sampled_from([HOSTILE, "{{{x}}}", "</figure>"])


class Reader(HTMLParser):
    """Tags with attributes, and text, as a browser reads them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def details(self, event):
        return [json.loads(at["data-detail"]) for _, at in self.tags if at.get("data-event") == event]


def found(paths, sentences=("a woman",), metadata=None, **options):
    crops = [FoundCrop(Hit(path, 0.5 - 0.1 * i, metadata or {}), i + 1, "data:,x") for i, path in enumerate(paths)]
    columns = (tuple(crops),) if len(sentences) < 2 else (tuple(crops), (crops[-1],))
    return Found(Query(sentences, **options), columns, 40, 3, 0.0123)


def explanation(sentence="a red coat"):
    words = sentence.split()
    spans = [(0, 1)] * len(words)
    maps = np.random.default_rng(0).uniform(-1, 1, (len(words), 4, 2)).astype(np.float32)
    return Explanation(
        sentence, 0.321, words, spans, np.linspace(-0.1, 0.1, len(words)).astype(np.float32), maps, maps[0]
    )


def shape(text):
    """Tags and the names of their attributes."""
    return [(tag, sorted(attrs)) for tag, attrs in Reader(text).tags]


@given(TEXT, TEXT, TEXT)
@settings(max_examples=40, deadline=None)
def test_text_of_others_makes_no_tag_and_no_attribute(path, sentence, value):
    plain = shape(results_html(found(["a"], ("b", "b"), {"c": "d"})))
    assert shape(results_html(found([path], (sentence, sentence), {value: value}))) == plain
    assert shape(pictures_html([Picture(path, np.zeros(2), "data:,x")])) == shape(
        pictures_html([Picture("a", np.zeros(2), "data:,x")])
    )
    assert not set("{}$`\\") & set(escape(sentence))


@given(TEXT)
@settings(max_examples=40, deadline=None)
def test_buttons_tell_what_was_put_in(path):
    path = path.replace("\r", "")  # HTML has no such character
    assert Reader(button("x", "like", image=path)).details("like") == [{"image": path}]


def test_cards_show_rank_score_metadata_and_the_other_side():
    page = Reader(results_html(found(["a.png", "b.png"], ("a woman", "a man"), {"camera": "c1", "hour": None}, page=1)))
    assert [word in page.text for word in ("0.500", "0.400", "c1", "None", "12 ms", "page 2 of 3", "a man")] == [
        *(True, True, True, False, True, True, True),
    ]
    assert page.text.count("right 2") == 1  # the second crop is on the right as well, and is the second there too
    assert page.text.count("left 2") == 1
    assert page.details("why") == [
        {"image": name, "side": side} for name, side in (("a.png", 0), ("b.png", 0), ("b.png", 1))
    ]
    assert page.details("turn") == [{"by": -1}, {"by": 1}]


@pytest.mark.parametrize(("page", "disabled"), [(0, [True, False]), (1, [False, False]), (2, [False, True])])
def test_pages_end_at_the_first_and_the_last(page, disabled):
    tags = Reader(results_html(found(["a.png"], page=page))).tags
    assert ["disabled" in at for _, at in tags if at.get("data-event") == "turn"] == disabled


def test_a_query_of_pictures_alone_offers_no_reasons():
    page = Reader(results_html(found(["a.png"], ())))
    assert (page.details("why"), page.details("like")) == ([], [{"image": "a.png"}])


def test_a_deleted_file_is_said():
    crop = FoundCrop(Hit("a.png", 0.5, {}), 1, "")
    page = Reader(results_html(Found(Query(("a",)), ((crop,),), 1, 1, 0.1, "the index is spoilt")))
    assert "file is gone" in page.text
    assert "the index is spoilt" in page.text
    assert page.details("why") == []


def test_nothing_found_is_said():
    assert "No image of the gallery fulfils" in results_html(Found(Query(("a",)), ((),), 0, 1, 0.1))


def test_pictures_can_be_taken_out_until_there_are_too_many_to_add():
    picture = Picture("a.png", np.zeros(2), "data:,x")
    some, full = (Reader(pictures_html([picture] * count)) for count in (2, MAX_PICTURES))
    assert some.details("drop") == [{"number": 0}, {"number": 1}]
    chooser = ("input", {"type": "file", "accept": "image/*"})  # not hidden, for then no key would reach it
    assert [chooser in page.tags for page in (some, full)] == [True, False]


def test_signs_have_names_that_can_be_read_out():
    tags = Reader(results_html(found(["a.png"])) + pictures_html([Picture("a.png", np.zeros(2), "data:,x")])).tags
    names = [at["aria-label"] for _, at in tags if "aria-label" in at]
    assert names == ["previous page", "next page", "take it out"]
    assert [at["alt"] for tag, at in tags if tag == "img"] == ["a.png", ""]


def test_examples_can_be_tried():
    assert {"sentence": "a woman in a red coat with a black backpack"} in Reader(begin_html()).details("example")


def test_an_explanation_has_a_map_for_every_word_and_one_for_the_sentence():
    page = Reader(why_html(np.full((40, 20, 3), 99, np.uint8), explanation(), "a.png"))
    heats = {at["data-heat"]: at["src"] for _, at in page.tags if "data-heat" in at}
    words = [at["data-map"] for _, at in page.tags if "data-map" in at and "disabled" not in at]
    assert words == list(heats) == ["-1", "0", "1", "2"]
    assert len(set(heats.values())) == 4
    assert [at["data-heat"] for _, at in page.tags if at.get("class") == "on"] == ["-1"]
    for text in ("0.321", "-0.100", "+0.100", "coat", "a.png"):
        assert text in page.text


def test_words_beyond_the_limit_have_no_map():
    page = Reader(why_html(np.full((40, 20, 3), 99, np.uint8), explanation("word " * 30), "a.png"))
    assert sum("data-heat" in at for _, at in page.tags) == 25
    assert sum("data-map" in at and "disabled" in at for _, at in page.tags) == 6


@given(TEXT.filter(str.split))
@settings(max_examples=10, deadline=None)
def test_sentences_in_explanations_make_no_tag(sentence):
    words = len(sentence.split())
    image = np.full((40, 20, 3), 99, np.uint8)
    assert shape(why_html(image, explanation(sentence), sentence)) == shape(
        why_html(image, explanation("a " * words), "b")
    )
