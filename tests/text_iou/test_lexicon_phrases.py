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
        ("a helmet (navy) and a coat in blue", {"helmet", "blue helmet", "coat", "blue coat"}),
        ("His hair is short and black and he wears shorts", {"hair", "short hair", "black hair", "shorts"}),
        ("a top which is red and grass green trousers", {"top", "red top", "trousers", "green trousers"}),
        ("a shirt with red and black trousers", {"shirt", "trousers", "red trousers", "black trousers"}),
        ("a pullover with a checkered design", {"sweater", "checked sweater"}),
        ("trousers of beige color wears blue socks", {"trousers", "beige trousers", "socks", "blue socks"}),
        ("a skirt of lemon yellow cloth", {"skirt", "yellow skirt"}),
        ("no hat or bag, but a red scarf", {"no hat", "no bag", "scarf", "red scarf"}),
        ("without any glasses", {"no glasses"}),
        ("He isn't carrying a bag and doesn't wear a hat", {"no bag", "no hat"}),
        ("black shoes, a hat on top of her head", {"shoes", "black shoes", "hat"}),
        ("black flats or flat shoes", {"flats", "black flats", "black shoes"}),
        ("a man in black. Shoes are visible", {"shoes"}),
        ("He wears red. A bag", {"bag"}),
        ("a white knitted zip polo sweater", {"sweater"}),  # too many unknown words between
        ("a white soft polo sweater", {"sweater", "white sweater"}),
        ("black dress shoes", {"leather shoes", "black leather shoes", "black shoes"}),
        ("a black dress, shoes", {"dress", "black dress", "shoes"}),
        ("A woman's T-SHIRT and off-white tee", {"t-shirt", "white t-shirt", "white shirt"}),
        ("a man walking past", set()),
        ("", set()),
    ],
)
def test_phrases_of_captions(caption, phrases):
    assert PHRASES(caption) == phrases


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        # Denial ends with the thing, an unknown word, or looks that no thing follows.
        ("a shirt that is not red", {"shirt"}),
        ("a shirt that is not red or blue, a scarf", {"shirt", "scarf"}),
        ("a shirt that is not red, and a blue scarf", {"shirt", "scarf", "blue scarf"}),
        ("a shirt that is not tucked into his pants", {"shirt", "trousers"}),
        ("a top without sleeves with blue shorts", {"top", "no sleeves", "shorts", "blue shorts"}),
        ("a shirt without logo wearing black shorts", {"shirt", "no logo", "shorts", "black shorts"}),
        ("a shirt without logo wearing shorts", {"shirt", "no logo", "shorts"}),
        ("carrying nothing with blue shorts", {"shorts", "blue shorts"}),
        ("no longer young man in a coat", {"coat"}),
        ("neither a hat nor glasses", {"no hat", "no glasses"}),
        ("He doesn 't have a hat", {"no hat"}),
        ("He does n't have a hat", {"no hat"}),
        ("He doesn\u2019t have a hat", {"no hat"}),
        ("They haven't hats and hadn't scarves", {"no hat", "no scarf"}),
        ("He is not wearing a hat", {"no hat"}),
        ("not carrying a red bag or umbrella", {"no bag", "no umbrella"}),
        ("no cap, no short sleeved blue shirt", {"no cap", "no t-shirt"}),
        # Looks behind a thing.
        ("He wears a shirt, which is red, and shorts", {"shirt", "red shirt", "shorts"}),
        ("a shirt, that is red, and shorts", {"shirt", "red shirt", "shorts"}),
        ("a man with a scarf, who is in red", {"scarf"}),
        ("Shirt: red. Pants: black", {"shirt", "red shirt", "trousers", "black trousers"}),
        ("a hat. On the feet: red shoes", {"hat", "shoes", "red shoes"}),
        ("the shirt he wears is red", {"shirt", "red shirt"}),
        ("hair is black he wears red and blue shoes", {"hair", "black hair", "shoes", "red shoes", "blue shoes"}),
        ("a shirt carrying a red kite", {"shirt"}),
        ("the shirt has red stripes", {"shirt", "red shirt", "striped shirt"}),
        ("Her dress has a floral print", {"dress", "floral dress"}),
        ("A shirt, red in color, and blue pants", {"shirt", "red shirt", "trousers", "blue trousers"}),
        ("a shirt in color red", {"shirt", "red shirt"}),
        # Parts, and looks that are nouns.
        (
            "a white shirt with red logo and black pants",
            {"shirt", "white shirt", "logo", "red logo", "trousers", "black trousers"},
        ),
        ("a jacket with white sleeves and black hood", {"jacket", "sleeves", "white sleeves", "hood", "black hood"}),
        (
            "a shirt with white buttons, black pants",
            {"shirt", "buttons", "white buttons", "trousers", "black trousers"},
        ),
        ("a shirt with stripes and black pants", {"shirt", "striped shirt", "trousers", "black trousers"}),
        ("a shirt with a dotted design, pants which are red", {"shirt", "dotted shirt", "trousers", "red trousers"}),
        (
            "a shirt with red and white stripes and black pants",
            {"shirt", "red shirt", "white shirt", "striped shirt", "trousers", "black trousers"},
        ),
        ("a shirt with red and white shoes", {"shirt", "shoes", "red shoes", "white shoes"}),
        ("long hair with a red polka dot dress", {"hair", "long hair", "dress", "red dress", "dotted dress"}),
        # What is no thing, or another.
        ("facing away from the camera, looking at the camera, towards the camera", set()),
        ("holding a camera", {"camera"}),
        ("a shirt with flowers at the bottom", {"shirt", "floral shirt"}),
        ("the bottom of the stairs; the top of the stairs", set()),
        ("buttons at the top", {"buttons"}),
        ("a glass of water", {"cup"}),
        ("clutches a bag", {"bag"}),
        ("a tie-dye sweater", {"sweater", "tie-dye sweater"}),
        ("a jogger in joggers", {"trousers"}),
        # Words that were unknown.
        ("a multi-colored scarf", {"scarf", "multicolored scarf"}),
        ("mustaches and moustaches", {"moustache"}),
        ("khakis, capris, cargo pants and joggers", {"trousers"}),
        ("khaki pants", {"trousers", "beige trousers"}),
        ("a black haired man", {"hair", "black hair"}),
        ("a jean jacket", {"denim jacket"}),
        ("a sweat shirt", {"hoodie"}),
    ],
)
def test_less_plain_captions(caption, phrases):
    assert PHRASES(caption) == phrases


@pytest.mark.parametrize(
    ("captions", "phrases"),
    [
        (
            [
                "a blue short sleeved shirt",
                "a short-sleeved blue shirt",
                "a blue shirt with short sleeves",
                "blue tees",
            ],
            {"t-shirt", "blue t-shirt", "blue shirt"},
        ),
        (["a long sleeve blue shirt", "a blue long sleeved shirt", "a blue shirt"], {"shirt", "blue shirt"}),
        (
            ["a padded black jacket", "a black puffer jacket", "a jacket which is black and quilted"],
            {"down jacket", "black down jacket", "black jacket"},
        ),
        (["a hooded sleeveless top", "a sleeveless hooded top"], {"tank top", "hooded tank top"}),
        (["a short blue shirt"], {"shirt", "short shirt", "blue shirt"}),
        (["a red sleeveless blouse"], {"blouse", "red blouse", "sleeveless blouse", "tank top", "red tank top"}),
        (["a sleeveless shirt"], {"tank top"}),
        (["leather loafers"], {"leather shoes"}),
        (["a hooded down jacket"], {"down jacket", "hooded down jacket", "hoodie"}),
        (["a white short-sleeved, round-neck shirt"], {"t-shirt", "white t-shirt", "white shirt"}),
        (["leather black shoes", "loafers that are black"], PHRASES("black leather shoes")),
        (["flat black shoes", "black flat shoes"], {"flats", "black flats", "black shoes"}),
        (["denim blue pants", "blue denim pants"], {"jeans", "blue jeans", "blue trousers"}),
        (["a long black skirt"], {"long skirt", "black long skirt", "black skirt"}),
        (["short black pants"], {"shorts", "black shorts"}),
        (["cropped black pants"], {"trousers", "black trousers", "cropped trousers"}),
    ],
)
def test_a_look_makes_another_thing_in_any_order(captions, phrases):
    for caption in captions:
        assert PHRASES(caption) == phrases, caption


def test_no_look_is_left_that_makes_another_thing():
    lexicon = PHRASES.lexicon
    items = {item for entries in lexicon._by_first.values() for _, item in entries}
    looks = [name for kind, name in items if kind == "looks"]
    assert len(looks) > 25
    assert lexicon.renamed["shirt"]["sleeveless"] == "tank top"
    left = {phrase for thing in lexicon.kinds for look in looks for phrase in PHRASES(f"a {look} {thing}")}
    assert "red shirt" in left
    assert not left & {f"{look} {thing}" for thing, names in lexicon.renamed.items() for look in names} - {
        *lexicon.kinds
    }


def test_broader_kinds():
    assert PHRASES("red sneakers") == {"sneakers", "red sneakers", "red shoes"}
    assert PHRASES("no cap, sneakers") == {"no cap", "sneakers"}
    for kind, broader in (("backpack", "bag"), ("beanie", "hat"), ("polo", "shirt"), ("shades", "glasses")):
        assert PHRASES(f"a red {kind}") & PHRASES(f"a red {broader}") == {f"red {broader}"}
        assert not PHRASES(f"a red {kind}") & PHRASES("a red suitcase")


def test_kinds_of_kinds(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("[things]\nloafers < shoes: moccasins # a remark\nshoes<footwear\nfootwear\n[looks]\nred")
    assert LexiconPhrases(str(path))("a red moccasin") == {*("loafers", "red loafers", "red shoes", "red footwear")}


def test_a_byte_order_mark_is_no_word(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("[things]\nshirt\n", encoding="utf-8-sig")
    assert LexiconPhrases(str(path))("a shirt") == {"shirt"}


def test_a_look_makes_one_thing_only(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("[things]\ntee: short shirt\nblouse: brief shirt\nshirt\n[looks]\nshort: brief\n")
    with pytest.raises(
        ValueError, match=r"words\.txt, line 3: 'brief shirt' is 'blouse', but .* is 'tee' .* into one line"
    ):
        Lexicon.read(path)


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
        ("[things]\nsneakers < shoes", 3, "a kind of 'shoes', which is no thing.*add it"),
        ("[things]\nhat\ncap < hats\nshoes: hats", 4, "a kind of 'hats', which is no thing.*no synonym"),
        ("[things]\nhat < hat", 3, "'hat' is a kind of 'hat'.*take a '<' out"),
        ("[things]\nhat\ncap < beanie\nbeanie < cap", 4, "must not go in a circle"),
        ("[things]\ncap <: cap", 3, "'<' that means nothing"),
        ("[things]\ncap: beanie < hat", 3, "'<' that means nothing"),
        ("[looks]\nred < green", 3, "'<' that means nothing"),
        ("[looks]\nstriped\n[patterns]\nstripped: stripes", 5, "'stripped' has patterns but is no look.*add one"),
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
        assert thing in phrases or look == "no" or (thing == "shirt" and f"{look} t-shirt" in phrases)
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
