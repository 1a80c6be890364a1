"""HTML of the page: crops as cards, the pictures of a query, explanations. All text of others is escaped."""

import html
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmreid_text.apis.explain import Explanation
from mmreid_text.page.gallery_search import data_address
from mmreid_text.page.query import MAX_PICTURES, Found, FoundCrop, Picture
from mmreid_text.visualization.chips import ink_on
from mmreid_text.visualization.dataset_sheet import fit_height
from mmreid_text.visualization.explanation_sheet import contribution_colour, heaviest_words
from mmreid_text.visualization.similarity_map import overlay

NUM_MAPS = 24  # words of a sentence that can be pointed at
EXAMPLES = (
    "a woman in a red coat with a black backpack",
    "a man wearing a yellow shirt and blue jeans",
    "a person with a white cap and a green jacket",
    "a woman in a long purple skirt carrying a handbag",
)
_MAP_HEIGHT = 300
_READING = (
    "Under a word: the score less that of the sentence without it; blue speaks for the image, red against it. Choose a "
    "word to see where the crop is like it, yellow most."
)
_SIDES = ("left", "right")
_TEMPLATE_MARKS = {ord(mark): f"&#{ord(mark)};" for mark in "{}$`\\"}


def escape(text: object) -> str:
    """Text as HTML, in which Gradio's templates find no mark of theirs either."""
    return html.escape(str(text)).translate(_TEMPLATE_MARKS)


def button(label: str, event: str, kind: str = "", disabled: bool = False, title: str = "", **detail: object) -> str:
    """A button that triggers an event of the component that it stands in; page.js listens."""
    told = escape(json.dumps(detail))
    name = f' aria-label="{escape(title)}"' if label.startswith("&") else ""  # a sign is nothing to read out
    return (
        f'<button type="button" class="{kind}" data-event="{event}" data-detail="{told}" title="{escape(title)}"{name}'
        f"{' disabled' * disabled}>{label}</button>"
    )


def begin_html() -> str:
    """What stands in the place of results before the first search."""
    tries = "".join(button(escape(text), "example", sentence=text) for text in EXAMPLES)
    return f'<div class="begin">Say whom to look for, or try one of these:<br>{tries}</div>'


def results_html(found: Found) -> str:
    """A page of results: one column of cards, or two to compare."""
    query, sides = found.query, len(found.columns)
    places = [{crop.hit.path: crop.rank for crop in column} for column in found.columns]
    columns = []
    for side, column in enumerate(found.columns):
        other = places[1 - side] if sides == 2 else {}
        cards = [_card(crop, side, bool(query.sentences), other.get(crop.hit.path)) for crop in column]
        title = f"<h3>{escape(query.sentences[side])}</h3>" if sides == 2 else ""
        body = "".join(cards) or '<p class="none">No image of the gallery fulfils the conditions.</p>'
        columns.append(f'<section>{title}<div class="cards">{body}</div></section>')
    note = f'<p class="note">{escape(found.note)}</p>' if found.note else ""
    return f'{_bar(found)}{note}<div class="columns n{sides}">{"".join(columns)}</div>'


def _bar(found: Found) -> str:
    page, first = found.query.page, min((column[0].rank for column in found.columns if column), default=0)
    last = max((column[-1].rank for column in found.columns if column), default=0)
    turn = "".join(
        (
            button("&lsaquo;", "turn", "turn", page == 0, "previous page", by=-1),
            f"<span>page {page + 1:,} of {found.pages:,}</span>",
            button("&rsaquo;", "turn", "turn", page + 1 >= found.pages, "next page", by=1),
        )
    )
    span = f"{first:,}&ndash;{last:,} of {found.matching:,}" if last else "0"
    took = f"{1000 * found.seconds:.0f} ms"
    return f'<div class="bar"><span><b>{span}</b> images, found in {took}</span><span class="pages">{turn}</span></div>'


def _card(crop: FoundCrop, side: int, explained: bool, other: int | None) -> str:
    path = crop.hit.path
    known = [f"{name}: {value}" for name, value in crop.hit.metadata.items() if value is not None]
    values = " · ".join(str(value) for value in crop.hit.metadata.values() if value is not None)
    also = f'<em title="also found on the {_SIDES[1 - side]}">{_SIDES[1 - side]} {other}</em>' if other else ""
    gone = '<div class="gone">file is gone</div>'
    picture = f'<img src="{crop.thumbnail}" alt="{escape(path)}">' if crop.thumbnail else gone
    acts = [button("similar", "like", title="more like this: add the crop to the query", image=path)]
    if explained and crop.thumbnail:
        acts.insert(0, button("why?", "why", title="what each word adds, and where", image=path, side=side))
    return (
        f'<figure class="card" title="{escape(chr(10).join([path, *known]))}">{picture}{also}'
        f"<figcaption><b>{crop.rank}</b><span>{crop.hit.score:.3f}</span></figcaption>"
        f'<div class="meta">{escape(values or path)}</div><div class="acts">{"".join(acts)}</div></figure>'
    )


def pictures_html(pictures: Sequence[Picture]) -> str:
    """The pictures of a query, each with a button that takes it out, and one that adds a file."""
    parts = [
        f'<span class="picture" title="{escape(picture.name)}"><img src="{picture.thumbnail}" alt="">'
        f"{button('&times;', 'drop', 'x', title='take it out', number=number)}</span>"
        for number, picture in enumerate(pictures)
    ]
    if len(pictures) < MAX_PICTURES:
        parts.append('<label class="add">+ picture<input type="file" accept="image/*"></label>')
    said = (
        "The query is half the sentence, half the mean of these pictures; without a sentence, the pictures alone."
        if pictures
        else "Add a picture of your own, or a crop below by “similar”."
    )
    return f'<div class="pictures">{"".join(parts)}<span class="hint">{said}</span></div>'


def why_html(pixels: np.ndarray, found: Explanation, name: str) -> str:
    """Crop, heat maps of which one is seen, and words that choose it."""
    crop = np.asarray(fit_height(pixels, _MAP_HEIGHT))
    mapped = heaviest_words(found, NUM_MAPS)
    limits = (float(found.maps[mapped].min()), float(found.maps[mapped].max())) if mapped else None
    heats = [_heat(crop, found.sentence_map, None, -1), *(_heat(crop, found.maps[i], limits, i) for i in mapped)]
    largest = float(np.abs(found.contributions).max(initial=0))
    words = [
        _word(word, value, largest, i, i in mapped)
        for i, (word, value) in enumerate(zip(found.words, found.contributions.tolist()))
    ]
    whole = '<button type="button" class="word on" data-map="-1">whole sentence<i>map</i></button>'
    return (
        f'<div class="why"><div class="head"><b>{found.score:.3f}</b> {escape(found.sentence)}</div>'
        f'<div class="pair"><img src="{data_address(Image.fromarray(crop))}" alt=""><div class="heats">{"".join(heats)}'
        f'</div></div><div class="words">{whole}{"".join(words)}</div><p class="hint">{_READING}</p>'
        f'<p class="hint">{escape(name)}</p></div>'
    )


def _heat(crop: np.ndarray, heat: np.ndarray, limits: tuple[float, float] | None, number: int) -> str:
    address = data_address(Image.fromarray(overlay(crop, heat, limits)))
    return f'<img src="{address}" alt="" data-heat="{number}"{" class=on" * (number < 0)}>'


def _word(word: str, value: float, largest: float, number: int, mapped: bool) -> str:
    fill = contribution_colour(value, largest)
    style = "background:rgb({},{},{});color:rgb({},{},{})".format(*fill, *ink_on(fill))
    return (
        f'<button type="button" class="word" data-map="{number}" style="{style}"{" disabled" * (not mapped)}>'
        f"{escape(word)}<i>{value:+.3f}</i></button>"
    )
