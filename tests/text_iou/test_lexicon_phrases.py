"""Phrases of captions: which looks belong to which thing, synonyms, and lexicon files that are wrong."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.text_iou import Lexicon, LexiconPhrases, PhraseTable, SpacyPhrases
from mmreid_text.text_iou.lexicon import DEFAULT, singular

PHRASES = LexiconPhrases()


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a red shirt", {"shirt", "red shirt"}),
        ("Red shoes.", {"shoes", "red shoes"}),
        ("A red and white striped shirt", {"shirt", "red shirt", "white shirt", "striped shirt"}),
        ("shoes that are white, a bag", {"shoes", "white shoes", "bag"}),
        ("a cap (navy) and a coat in blue", {"cap", "blue cap", "coat", "blue coat"}),
        ("His hair is short and black and he wears jeans", {"hair", "short hair", "black hair", "jeans"}),
        ("a t-shirt which is red and grass green trousers", {"t-shirt", "red t-shirt", "trousers", "green trousers"}),
        ("a shirt with red and black trousers", {"shirt", "trousers", "red trousers", "black trousers"}),
        ("a pullover with a checkered design", {"sweater", "checked sweater"}),
        ("trousers of beige color wears blue sandals", {"trousers", "beige trousers", "sandals", "blue sandals"}),
        ("a skirt of lemon yellow cloth", {"skirt", "yellow skirt"}),
        ("no hat or bag, but a red scarf", {"no hat", "no bag", "scarf", "red scarf"}),
        ("without any glasses", {"no glasses"}),
        ("He isn't carrying a bag and doesn't wear a hat", {"no bag", "no hat"}),
        ("flat black shoes, a hat on top of her head", {"shoes", "black shoes", "hat"}),
        ("black flats or flat shoes", {"flats", "black flats"}),
        ("a man in black. Shoes are visible", {"shoes"}),
        ("He wears red. A bag", {"bag"}),
        ("a white knitted zip polo sweater", {"sweater"}),  # too many unknown words between
        ("a white soft polo sweater", {"sweater", "white sweater"}),
        ("black dress shoes", {"leather shoes", "black leather shoes"}),
        ("a black dress, shoes", {"dress", "black dress", "shoes"}),
        ("A woman's T-SHIRT and off-white tee", {"t-shirt", "white t-shirt"}),
        ("a man walking past", set()),
        ("", set()),
    ],
)
def test_phrases_of_captions(caption, phrases):
    assert PHRASES(caption) == phrases


def test_synonyms_and_number_are_one_phrase():
    for one, other in (
        ("a grey pullover", "gray jumpers"),
        ("a navy rucksack", "blue knapsack"),
        ("slacks", "pants"),
        ("a pair of crimson trainers", "red sneakers"),
    ):
        assert PHRASES(one) == PHRASES(other) != set()
    assert PHRASES("short hair, shorts") == {"hair", "short hair", "shorts"}


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        ("[thing]", 2, r"'\[thing\]' is no section"),
        ("[things", 2, "is no section"),
        ("shirt", 2, "stands before any section"),
        ("[things]\nshirt: blouse,", 3, "'' is no phrase"),
        ("[things]\nshirt\nblouse: Shirt", 4, "'shirt' stands in line 3 already"),
        ("[things]\ntee shirt\n[looks]\ntee-shirt", 5, "'tee-shirt' stands in line 3 already"),
        ("[looks]\nred; green", 3, "'red; green' is no phrase"),
        ("[looks]\n: green", 3, "'' is no phrase"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, body, line, message):
    path = tmp_path / "words.txt"
    path.write_text("# remarks are fine\n" + body + "\n")
    with pytest.raises(ValueError, match=rf"words\.txt, line {line}: .*{message}"):
        Lexicon.read(path)


def test_an_own_lexicon(tmp_path):
    path = tmp_path / "words.txt"
    with pytest.raises(FileNotFoundError, match=r"words\.txt does not exist"):
        LexiconPhrases(str(path))
    text = DEFAULT.read_text().replace("[things]", "[things]\nboater: straw boater  # a hat")
    path.write_text(text)
    assert LexiconPhrases(str(path))("a red straw boater") == {"boater", "red boater"}
    assert PHRASES("a red straw boater") == set()


@pytest.mark.parametrize(
    ("word", "one"), [("shoes", "shoe"), ("watches", "watch"), ("dresses", "dress"), ("dress", "dress"), ("bus", "bus")]
)
def test_singular(word, one):
    assert singular(word) == one


WORDS = ["red", "blue", "shirt", "shoes", "no", "and", ",", ".", "is", "with", "a", "of", "walks", "t-shirt", "(", ")"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, "é", "'", "-", "&"])))
def test_any_text_is_read(words):
    phrases = PHRASES(" ".join(words))
    assert phrases <= {
        f"{look}{thing}" for look in ("", "red ", "blue ", "no ") for thing in ("shirt", "shoes", "t-shirt")
    }
    for look_and_thing in phrases:
        look, _, thing = look_and_thing.rpartition(" ")
        assert thing in phrases or look == "no"
        assert not look or look in words


def test_table_of_phrases():
    captions = ["a red shirt", "nothing", "shirt and shoes, shirt"]
    table = PhraseTable.collect(captions, PHRASES)
    assert [set(table.phrases(row)) for row in range(3)] == [{"shirt", "red shirt"}, set(), {"shirt", "shoes"}]
    assert table.indptr.tolist() == [0, 2, 2, 4]
    assert len(table) == 3
    assert sorted(table.names) == ["red shirt", "shirt", "shoes"]
    assert "1 captions without any" in table.summary()
    again = PhraseTable.collect(captions, PHRASES)
    assert np.array_equal(again.indices, table.indices)
    assert again.names == table.names
    assert PhraseTable.collect([], PHRASES).indptr.tolist() == [0]


def word(text, i, pos, lemma=None):
    return SimpleNamespace(text=text, i=i, pos_=pos, lemma_=lemma or text)


class Chunk(list):
    @property
    def root(self):
        return self[-1]


def test_spacy_phrases(monkeypatch):
    chunks = [
        Chunk([word("A", 0, "DET"), word("man", 1, "NOUN")]),
        Chunk(
            [
                word("two", 2, "NUM"),
                word("Red", 3, "ADJ", "red"),
                word("polo", 4, "NOUN"),
                word("shirts", 5, "NOUN", "shirt"),
            ]
        ),
        Chunk([word("he", 6, "PRON")]),
    ]
    seen = []

    def load(name, exclude):
        if name != "english":
            raise OSError("[E050] Can't find model")
        return lambda caption: seen.append(caption) or SimpleNamespace(noun_chunks=chunks)

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=load))
    assert SpacyPhrases("english")("A man, two red polo shirts") == {"shirt", "red shirt", "polo shirt"}
    assert seen == ["A man, two red polo shirts"]
    with pytest.raises(ImportError, match="python -m spacy download other"):
        SpacyPhrases("other")
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match="pip install spacy"):
        SpacyPhrases("english")
