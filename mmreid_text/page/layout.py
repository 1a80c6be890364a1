"""Layout of the page, and which visitor's act calls what."""

import binascii
import logging
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from mmreid_text.engine.config import error_text
from mmreid_text.page.cards import begin_html, escape, pictures_html, results_html, why_html
from mmreid_text.page.gallery_search import MAX_UPLOAD, GallerySearch, condition
from mmreid_text.page.query import Query, Upload

SEARCHES_AT_ONCE = 2
MAX_WAITING = 256
_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")
_EMPTY = (
    '<div class="why"><p class="empty">Choose “why?” under a crop to see what each word adds to its score.</p></div>'
)
_logger = logging.getLogger("mmreid_text.page")


def style() -> str:
    """CSS of the page."""
    return _STYLE.read_text(encoding="utf-8")


def build_page(search: GallerySearch, title: str) -> gr.Blocks:
    """The page as Gradio blocks.

    Args:
        search: What its visitors do.
        title: Said in its head, such as the model's name.
    """
    script = _SCRIPT.read_text(encoding="utf-8").replace("__MAX_UPLOAD__", str(MAX_UPLOAD))
    acts = _Acts(search)
    facets = search.facets()
    with gr.Blocks(title="Find people by a sentence", analytics_enabled=False, fill_width=True) as page:
        query = gr.State(Query())
        gr.HTML(f"<h1>Find people by a sentence</h1><span>{escape(title)}</span>", elem_id="head", js_on_load=None)
        with gr.Row(elem_id="asked"):
            sentence = gr.Textbox(label="Whom to look for", placeholder="a woman in a red coat", scale=5, max_lines=3)
            other = gr.Textbox(label="Compare with (optional)", placeholder="a woman in a dress", scale=4, max_lines=3)
            button = gr.Button("Search", variant="primary", scale=0)
        with gr.Row(elem_id="narrowed"):
            choices = [
                gr.Dropdown(list(facet.values), multiselect=True, label=facet.column, scale=2, min_width=120)
                for facet in facets
            ]
            more = gr.Textbox(label="Condition", placeholder=_example(search), scale=3, max_lines=1)
        pictures = gr.HTML(pictures_html(()), js_on_load=script)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=640, elem_id="found"):
                results = gr.HTML(begin_html(), js_on_load=script)
            with gr.Column(min_width=320, elem_id="explained"):
                why = gr.HTML(_EMPTY, js_on_load=script)

        def on(event: Callable[..., Any], act: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
            event(
                act,
                inputs,
                outputs,
                api_visibility="private",
                show_progress="hidden",
                concurrency_limit=SEARCHES_AT_ONCE,
                concurrency_id="search",
            )

        asked = [query, sentence, other, more, *choices]
        shown = [query, results, pictures]
        columns = [facet.column for facet in facets]
        for event in (button.click, sentence.submit, other.submit, more.submit):
            on(event, acts.ask(columns), asked, [*shown, why])
        on(results.example, acts.example, [query], [sentence, *shown])
        on(results.turn, acts.turn, [query], shown)
        on(results.like, acts.like, [query], shown)
        on(pictures.drop, acts.drop, [query], shown)
        on(pictures.upload, acts.upload, [query], shown)
        on(results.why, acts.why, [query], [why])
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=SEARCHES_AT_ONCE)
    return page


def _example(search: GallerySearch) -> str:
    kinds = {kind: column for column, kind in search.gallery.columns.items()}
    return f"{kinds['number']} >= 8" if "number" in kinds else '"night" in path'


class _Acts:
    """What visitors do. Their mistakes come back to them as text, ours only as the fact that there was one.

    What an event brings comes from the visitor's browser and may be anything; the query is kept here.
    """

    def __init__(self, search: GallerySearch) -> None:
        self.search = search

    def ask(self, columns: list[str]) -> Callable[..., list[Any]]:
        def ask(query: Query, sentence: str, other: str, more: str, *chosen: Any) -> list[Any]:
            sentences = tuple(text.strip() for text in (sentence, other) if text and text.strip())
            where = condition({name: values or [] for name, values in zip(columns, chosen)}, more or "")
            found = self._found(replace(query, sentences=sentences, where=where, page=0))
            return [*found, _EMPTY if sentences != query.sentences else gr.skip()]

        return ask

    def example(self, query: Query, event: gr.EventData) -> list[Any]:
        sentence = self._told(event, "sentence", str)
        return [sentence, *self._found(replace(query, sentences=(sentence,), page=0))]

    def turn(self, query: Query, event: gr.EventData) -> list[Any]:
        return self._found(replace(query, page=query.page + self._told(event, "by", int)))

    def like(self, query: Query, event: gr.EventData) -> list[Any]:
        path = self._told(event, "image", str)
        if any(picture.name == path for picture in query.pictures):
            raise gr.Error("This crop is in the query already.", print_exception=False)
        picture = self._tried(lambda: self.search.liked(path))
        return self._found(replace(query, pictures=(*query.pictures, picture), page=0))

    def drop(self, query: Query, event: gr.EventData) -> list[Any]:
        number = self._told(event, "number", int)
        pictures = tuple(picture for i, picture in enumerate(query.pictures) if i != number)
        query = replace(query, pictures=pictures, page=0)
        if not query.sentences and not pictures:
            return [query, begin_html(), pictures_html(())]
        return self._found(query)

    def upload(self, query: Query, event: gr.EventData) -> list[Any]:
        name = self._told(event, "name", str)
        if "data" not in event._data:
            raise gr.Error(f"The picture has more than {MAX_UPLOAD:,} bytes.", print_exception=False)
        try:
            data = b64decode(self._told(event, "data", str), validate=True)
        except binascii.Error as error:
            raise gr.Error("The picture did not arrive whole.", print_exception=False) from error
        picture = self._tried(lambda: self.search.uploaded(Upload(name, data)))
        return self._found(replace(query, pictures=(*query.pictures, picture), page=0))

    def why(self, query: Query, event: gr.EventData) -> str:
        path, side = self._told(event, "image", str), self._told(event, "side", int)
        if not 0 <= side < len(query.sentences):
            raise gr.Error("Search by a sentence first.", print_exception=False)
        return self._tried(lambda: why_html(*self.search.explain(query.sentences[side], path), path))

    def _found(self, query: Query) -> list[Any]:
        found = self._tried(lambda: self.search.find(query))
        return [found.query, results_html(found), pictures_html(found.query.pictures)]

    def _told(self, event: gr.EventData, name: str, kind: type) -> Any:
        data = event._data
        value = data.get(name) if isinstance(data, dict) else None
        if type(value) is not kind:
            raise gr.Error("The page sent something strange: load it again.", print_exception=False)
        return value

    def _tried(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except (ValueError, OSError) as error:
            raise gr.Error(error_text(error), print_exception=False) from error
        except Exception as error:
            _logger.exception("a search failed")
            raise gr.Error("The search failed; the server's log says why.", print_exception=False) from error
